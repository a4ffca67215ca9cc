#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace pregate {
namespace {

TEST(TensorTest, RowBytesFollowTheBlockLayouts) {
  EXPECT_EQ(RowBytes(DType::kF32, 3), 12);
  EXPECT_EQ(RowBytes(DType::kBF16, 3), 6);
  EXPECT_EQ(RowBytes(DType::kQ8_0, 64), 68);
  EXPECT_EQ(RowBytes(DType::kQ4_K, 512), 288);
  EXPECT_EQ(RowBytes(DType::kQ6_K, 256), 210);
  EXPECT_EQ(RowBytes(DType::kQ16Act, 64), 2 * 92);
  EXPECT_EQ(GetDTypeInfo(DType::kQ5_1).name, "Q5_1");
}

TEST(TensorTest, RowsAreAStrideApart) {
  const float data[6] = {0, 1, 2, 3, 4, 5};
  ConstTensor view = MakeView(data, DType::kF32, 2, 3);
  EXPECT_EQ(view.Row<float>(1)[0], 3);
  view.stride = 4;
  EXPECT_EQ(view.Row<float>(1)[0], 1);
}

TEST(HalfTest, KnownValues) {
  EXPECT_EQ(HalfToFloat(0x3C00), 1.0f);
  EXPECT_EQ(HalfToFloat(0xC000), -2.0f);
  EXPECT_EQ(HalfToFloat(0x7BFF), 65504.0f);
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(0x0400), 0x1p-14f);
  EXPECT_TRUE(std::isinf(HalfToFloat(0x7C00)));
  EXPECT_TRUE(std::isnan(HalfToFloat(0x7E00)));
  EXPECT_EQ(FloatToHalf(-0.0f), 0x8000);
  EXPECT_EQ(FloatToHalf(65519.0f), 0x7BFF);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7C00);  // halfway to 2^16: to even, out of range
  EXPECT_EQ(FloatToHalf(1e30f), 0x7C00);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0x0000);  // halfway to the least: to even
  EXPECT_EQ(FloatToHalf(0x1.8p-25f), 0x0001);
  EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(HalfTest, EveryHalfSurvivesAndMidpointsGoToEven) {
  for (uint32_t bits = 0; bits < 0x7C00; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = HalfToFloat(half);
    ASSERT_EQ(FloatToHalf(value), half);
    ASSERT_EQ(FloatToHalf(-value), half | 0x8000);
    if (bits + 1 == 0x7C00) break;
    const float middle = (value + HalfToFloat(static_cast<uint16_t>(bits + 1))) / 2;  // exact
    ASSERT_EQ(FloatToHalf(middle), bits + bits % 2);
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, INFINITY)), bits + 1);
  }
}

TEST(BFloat16Test, RoundsToNearestEven) {
  EXPECT_EQ(BFloat16ToFloat(0x3F80), 1.0f);
  EXPECT_EQ(FloatToBFloat16(1.0f), 0x3F80);
  EXPECT_EQ(FloatToBFloat16(std::bit_cast<float>(0x3F808000u)), 0x3F80);  // halfway, even
  EXPECT_EQ(FloatToBFloat16(std::bit_cast<float>(0x3F818000u)), 0x3F82);  // halfway, odd
  EXPECT_EQ(FloatToBFloat16(std::bit_cast<float>(0x3F808001u)), 0x3F81);
  EXPECT_EQ(FloatToBFloat16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(std::bit_cast<float>(0x7F800001u)))));
}

TEST(E4M3Test, EveryOneSurvivesAndMidpointsGoToEven) {
  EXPECT_EQ(E4M3ToFloat(0x38), 1.0f);
  EXPECT_EQ(E4M3ToFloat(0xC4), -3.0f);
  EXPECT_EQ(E4M3ToFloat(0x01), 0x1p-9f);
  EXPECT_EQ(E4M3ToFloat(0x08), 0x1p-6f);
  EXPECT_EQ(E4M3ToFloat(0x7E), 448.0f);
  for (uint32_t bits = 0; bits < 0x7F; ++bits) {
    const auto e4m3 = static_cast<uint8_t>(bits);
    const float value = E4M3ToFloat(e4m3);
    ASSERT_EQ(FloatToE4M3(value), e4m3);
    ASSERT_EQ(FloatToE4M3(-value), e4m3 | 0x80);
    if (bits + 1 == 0x7F) break;
    const float middle = (value + E4M3ToFloat(static_cast<uint8_t>(bits + 1))) / 2;  // exact
    ASSERT_EQ(FloatToE4M3(middle), bits + bits % 2);
    ASSERT_EQ(FloatToE4M3(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(FloatToE4M3(std::nextafter(middle, INFINITY)), bits + 1);
  }
  EXPECT_EQ(FloatToE4M3(1e9f), 0x7E);
  EXPECT_EQ(FloatToE4M3(-INFINITY), 0xFE);
}

}  // namespace
}  // namespace pregate
