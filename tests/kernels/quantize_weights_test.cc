// Floats to block formats and back.
#include "kernels/quant/quantize_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <vector>

#include "kernels/quant/dequantize.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/weights.h"

namespace pregate {
namespace {

std::vector<float> RoundTrip(DType dtype, const std::vector<float>& x) {
  const auto cols = static_cast<int64_t>(x.size());
  GuardedMatrix row(dtype, 1, cols);
  QuantizeRow(dtype, x.data(), cols, row.view().data);
  EXPECT_TRUE(row.GuardsIntact());
  std::vector<float> result(x.size());
  DequantizeRow(dtype, row.view().data, cols, result.data());
  return result;
}

// What an element of a block may be off by, as quantize_weights.h says; x lies in [least, most].
double Bound(DType dtype, double x, double least, double most) {
  const double largest = std::max(std::fabs(least), std::fabs(most)), range = most - least;
  constexpr double kHalf = 0x1p-11;   // relative rounding of a half
  constexpr double kSmall = 0x1p-18;  // and what is lost where it is subnormal
  const bool far = std::signbit(x) != std::signbit(-least > most ? least : most);
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return std::fabs(x) * kHalf + 0x1p-25;
    case DType::kBF16:
      return std::fabs(x) * 0x1p-8;
    case DType::kQ8_0:
      return 0.51 * largest / 127 + largest * kHalf + kSmall;
    case DType::kQ4_0:
      return (far ? 1.01 : 0.51) * largest / 8 + largest * kHalf + kSmall;
    case DType::kQ5_0:
      return (far ? 1.01 : 0.51) * largest / 16 + largest * kHalf + kSmall;
    case DType::kQ4_1:
      return 0.51 * range / 15 + (largest + range) * kHalf + kSmall;
    case DType::kQ5_1:
      return 0.51 * range / 31 + (largest + range) * kHalf + kSmall;
    default:
      return std::numeric_limits<double>::quiet_NaN();
  }
}

std::vector<DType> QuantizableTypes() {
  std::vector<DType> types;
  std::copy_if(kWeightTypes.begin(), kWeightTypes.end(), std::back_inserter(types), CanQuantize);
  return types;
}

TEST(QuantizeWeightsTest, PlainTypesAndBlocksOf32) {
  EXPECT_EQ(QuantizableTypes(),
            (std::vector<DType>{DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                                DType::kQ4_1, DType::kQ5_0, DType::kQ5_1}));
}

TEST(QuantizeWeightsTest, ErrorIsWithinTheFormatsBound) {
  for (const DType dtype : QuantizableTypes()) {
    for (const float size : {1.0f, 0.02f, 300.0f, 1e-5f, 0.0f}) {
      for (const float offset : {0.0f, 0.7f, -3.0f}) {
        SCOPED_TRACE(testing::Message()
                     << GetDTypeInfo(dtype).name << ", " << size << ", " << offset);
        const GuardedMatrix random = RandomMatrix(1, 32 * 40, 3, size);
        std::vector<float> x(random.Row(0), random.Row(0) + random.view().cols);
        for (float& value : x) value += offset * size;
        const std::vector<float> got = RoundTrip(dtype, x);
        for (size_t k = 0; k < x.size(); ++k) {
          const auto block = x.begin() + static_cast<int64_t>(k / 32 * 32);
          const auto [least, most] = std::minmax_element(block, block + 32);
          ASSERT_NEAR(got[k], x[k], Bound(dtype, x[k], *least, *most)) << k;
        }
      }
    }
  }
}

// Numbers that a block can say come back as they are.
TEST(QuantizeWeightsTest, WhatABlockCanSayStaysExact) {
  const auto expect_exact = [](DType dtype, int first, int last) {
    std::vector<float> x(32);
    for (int i = 0; i < 32; ++i) {
      x[static_cast<size_t>(i)] = 0.25f * static_cast<float>(first + i % (last - first + 1));
    }
    x[31] = 0.25f * static_cast<float>(last);
    EXPECT_EQ(RoundTrip(dtype, x), x) << GetDTypeInfo(dtype).name;
  };
  expect_exact(DType::kQ4_0, -8, 7);
  expect_exact(DType::kQ5_0, -16, 15);
  expect_exact(DType::kQ4_1, 3, 18);
  expect_exact(DType::kQ5_1, -40, -9);
  std::vector<float> bytes(32);
  for (int i = 0; i < 32; ++i) bytes[static_cast<size_t>(i)] = static_cast<float>(127 - 8 * i);
  EXPECT_EQ(RoundTrip(DType::kQ8_0, bytes), bytes);
}

// What the gguf package makes of the same floats (tests/tools/make_quantize_goldens.py). It divides
// by a block's scale before that is rounded to half precision, as ggml does, and so is at most as
// near: a quant may be off by one, a scale by the last bit.
TEST(QuantizeWeightsTest, IsAsNearAsGguf) {
  std::ifstream in("tests/testdata/quantize/gguf.bin", std::ios::binary);
  const auto read = [&in](void* to, size_t bytes) {
    in.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes));
  };
  int32_t blocks = 0;
  read(&blocks, sizeof(blocks));
  ASSERT_GT(blocks, 64);
  std::vector<float> x(static_cast<size_t>(blocks) * 32);
  read(x.data(), x.size() * sizeof(float));
  for (const DType dtype : {DType::kQ8_0, DType::kQ5_1, DType::kQ5_0, DType::kQ4_1, DType::kQ4_0}) {
    SCOPED_TRACE(GetDTypeInfo(dtype).name);
    const auto bytes = static_cast<size_t>(RowBytes(dtype, static_cast<int64_t>(x.size())));
    std::vector<uint8_t> theirs(bytes), ours(bytes);
    read(theirs.data(), bytes);
    ASSERT_TRUE(in.good());
    QuantizeRow(dtype, x.data(), static_cast<int64_t>(x.size()), ours.data());
    std::vector<float> their_values(x.size()), our_values(x.size());
    DequantizeRow(dtype, theirs.data(), static_cast<int64_t>(x.size()), their_values.data());
    DequantizeRow(dtype, ours.data(), static_cast<int64_t>(x.size()), our_values.data());
    double their_error = 0, our_error = 0;
    size_t alike = 0;
    for (size_t i = 0; i < bytes; ++i) alike += ours[i] == theirs[i];
    for (size_t b = 0; b < x.size(); b += 32) {
      const auto [least, most] = std::minmax_element(&x[b], &x[b] + 32);
      const double bound = Bound(dtype, 0, *least, *most);
      for (size_t i = b; i < b + 32; ++i) {
        const double scale = bound > 0 ? 1 / bound : 0;  // every block counts alike
        their_error += std::pow((their_values[i] - x[i]) * scale, 2);
        our_error += std::pow((our_values[i] - x[i]) * scale, 2);
        ASSERT_NEAR(our_values[i], their_values[i], 2.1 * bound) << i;
      }
    }
    EXPECT_LE(our_error, their_error);
    EXPECT_GE(static_cast<double>(alike) / static_cast<double>(bytes), 0.9);
  }
}

}  // namespace
}  // namespace pregate
