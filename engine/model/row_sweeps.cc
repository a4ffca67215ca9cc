#include "engine/model/row_sweeps.h"

#include <xmmintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/logit_math.h"

namespace pregate {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Four at a time: as wide as every CPU that this program runs on.
using Floats [[gnu::vector_size(16)]] = float;
using Integers [[gnu::vector_size(16)]] = int32_t;
constexpr size_t kWidth = sizeof(Floats) / sizeof(float);

Floats All(float value) { return Floats{value, value, value, value}; }
Floats Load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof(values));
  return values;
}
void Store(Floats values, float* to) { std::memcpy(to, &values, sizeof(values)); }

// The larger, and the smaller, of each pair; of NaN and a number what comes second. One instruction
// each, which the compiler does not always find in a choice by comparison.
Floats Max(Floats a, Floats b) { return _mm_max_ps(a, b); }
Floats Min(Floats a, Floats b) { return _mm_min_ps(a, b); }

// LogitWeight, four at a time.
Floats Weigh(Floats logits, float largest, float scale) {
  const Floats finite = Min(All(kLargestFloat), logits);
  const Floats clamped = Max((finite - largest) * scale, All(kExp2Low));
  const Floats shifted = clamped + kNearestInteger;
  const Floats r = clamped - (shifted - kNearestInteger);
  Floats power = r * kExp2C5 + kExp2C4;
  power = power * r + kExp2C3;
  power = power * r + kExp2C2;
  power = power * r + kExp2C1;
  power = power * r + 1.0f;
  const auto weights = std::bit_cast<Floats>(std::bit_cast<Integers>(power) +
                                             (std::bit_cast<Integers>(shifted) << 23));
  return (weights + kNearestWeight) - kNearestWeight;
}

// body(block, its kRowBlock logits) for each block of a row; a short last block is filled up with
// -infinity, and `body` may not keep or change it.
template <typename Body>
void ForEachBlock(absl::Span<const float> row, const Body& body) {
  const size_t whole = row.size() / kRowBlock;
  for (size_t block = 0; block < whole; ++block) body(block, row.data() + block * kRowBlock);
  const absl::Span<const float> rest = row.subspan(whole * kRowBlock);
  if (rest.empty()) return;
  std::array<float, kRowBlock> filled;
  filled.fill(kMinusInfinity);
  std::copy(rest.begin(), rest.end(), filled.begin());
  body(whole, filled.data());
}

size_t CountBlocks(size_t size) { return (size + kRowBlock - 1) / kRowBlock; }

// Weighs a block, to `weights` unless that is null. Weights are multiples of 2^-32: their upper
// parts, multiples of 2^-16, and what is left of them are summed apart, each exactly in float.
double WeighBlock(float largest, float scale, const float* logits, float* weights) {
  constexpr float kNearestUpper = 0x1p7f;  // leaves multiples of 2^-16
  Floats upper = {}, lower = {};
  for (size_t i = 0; i < kRowBlock; i += kWidth) {
    const Floats four = Weigh(Load(logits + i), largest, scale);
    const Floats part = (four + kNearestUpper) - kNearestUpper;
    upper += part;
    lower += four - part;
    if (weights != nullptr) Store(four, weights + i);
  }
  const auto sum = [](Floats x) { return double{x[0]} + x[1] + x[2] + x[3]; };
  return sum(upper) + sum(lower);
}

}  // namespace

std::vector<float> BlockMaxima(absl::Span<const float> logits) {
  std::vector<float> maxima(CountBlocks(logits.size()));
  ForEachBlock(logits, [&maxima](size_t block, const float* values) {
    Floats even = All(kMinusInfinity), odd = even;
    for (size_t i = 0; i < kRowBlock; i += 2 * kWidth) {
      even = Max(Load(values + i), even);
      odd = Max(Load(values + i + kWidth), odd);
    }
    const Floats both = Max(even, odd);
    const float largest = std::max({both[0], both[1], both[2], both[3]});
    maxima[block] = std::min(largest, kLargestFloat);
  });
  return maxima;
}

std::vector<double> WeightSums(absl::Span<const float> logits, float largest, float scale) {
  std::vector<double> sums(CountBlocks(logits.size()));
  ForEachBlock(logits, [&](size_t block, const float* values) {
    sums[block] = WeighBlock(largest, scale, values, nullptr);
  });
  return sums;
}

std::vector<double> WeighInPlace(absl::Span<float> logits, float largest, float scale) {
  std::vector<double> sums(CountBlocks(logits.size()));
  ForEachBlock(logits, [&](size_t block, const float* values) {
    const absl::Span<float> place = logits.subspan(block * kRowBlock, kRowBlock);
    if (place.size() == kRowBlock) {
      sums[block] = WeighBlock(largest, scale, values, place.data());
      return;
    }
    std::array<float, kRowBlock> weights;
    sums[block] = WeighBlock(largest, scale, values, weights.data());
    std::copy_n(weights.begin(), place.size(), place.begin());
  });
  return sums;
}

}  // namespace pregate
