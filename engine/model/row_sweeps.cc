#include "engine/model/row_sweeps.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

namespace pregate {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kLargestFloat = std::numeric_limits<float>::max();

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

// The larger of each pair; of NaN and a number, the number that comes second.
Floats Max(Floats a, Floats b) { return a > b ? a : b; }

// 2^y for y <= 0; 0 for y <= -127 and for NaN.
Floats Exp2(Floats y) {
  const Floats clamped = Max(y, All(-127.0f));
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  const Floats shifted = clamped + kRound;
  const Floats r = clamped - (shifted - kRound);
  // Least relative error for |r| <= 1/2: 1e-7.
  Floats power = r * 0.00132647268f + 0.00967151267f;
  power = power * r + 0.0555073374f;
  power = power * r + 0.240222421f;
  power = power * r + 0.693146978f;
  power = power * r + 1.0f;
  // The integer goes to the exponent; what 2^-127 becomes are the bits of 0.
  return std::bit_cast<Floats>(std::bit_cast<Integers>(power) +
                               (std::bit_cast<Integers>(shifted) << 23));
}

// What a row is weighed by: a weight is 2^((logit - largest) * scale).
struct Scale {
  Scale(float largest, float temperature)
      : largest(largest), scale(1.44269504f / temperature) {}  // log2(e)

  Floats operator()(Floats logits) const {
    const Floats finite = All(kLargestFloat) < logits ? All(kLargestFloat) : logits;
    return Exp2((finite - largest) * scale);
  }
  float largest;
  float scale;
};

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

// Weighs a block, to `weights` unless that is null. Two sums, so that one addition need not wait
// for the other.
double WeighBlock(const Scale& weigh, const float* logits, float* weights) {
  Floats even = {}, odd = {};
  for (size_t i = 0; i < kRowBlock; i += 2 * kWidth) {
    const Floats first = weigh(Load(logits + i));
    const Floats second = weigh(Load(logits + i + kWidth));
    even += first;
    odd += second;
    if (weights == nullptr) continue;
    Store(first, weights + i);
    Store(second, weights + i + kWidth);
  }
  const Floats sum = even + odd;
  return double{sum[0]} + sum[1] + sum[2] + sum[3];
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

float Weight(float logit, float largest, float temperature) {
  return Scale(largest, temperature)(All(logit))[0];
}

std::vector<double> WeightSums(absl::Span<const float> logits, float largest, float temperature) {
  const Scale weigh(largest, temperature);
  std::vector<double> sums(CountBlocks(logits.size()));
  ForEachBlock(logits, [&](size_t block, const float* values) {
    sums[block] = WeighBlock(weigh, values, nullptr);
  });
  return sums;
}

std::vector<double> WeighInPlace(absl::Span<float> logits, float largest, float temperature) {
  const Scale weigh(largest, temperature);
  std::vector<double> sums(CountBlocks(logits.size()));
  ForEachBlock(logits, [&](size_t block, const float* values) {
    const absl::Span<float> place = logits.subspan(block * kRowBlock, kRowBlock);
    if (place.size() == kRowBlock) {
      sums[block] = WeighBlock(weigh, values, place.data());
      return;
    }
    std::array<float, kRowBlock> weights;
    sums[block] = WeighBlock(weigh, values, weights.data());
    std::copy_n(weights.begin(), place.size(), place.begin());
  });
  return sums;
}

}  // namespace pregate
