// kv_append of every table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/table_test.h"

namespace pregate {
namespace {

using KvAppendTest = TableTest;
INSTANTIATE_TEST_SUITE_P(Tables, KvAppendTest, testing::ValuesIn(TablesUnderTest()), TableName);

TEST_P(KvAppendTest, StoresTheReferencesBits) {
  for (const AttentionCase& c : kAttentionCases) {
    PagedKv got(c, 1), want(c, 1);
    got.Append(*device_, kernels());
    want.Append(*host_, reference());
    EXPECT_TRUE(got.SameBits(want)) << c.name;
  }
}

// Rows of any sequences and positions in one call: here from both ends of two sequences in turn.
TEST_P(KvAppendTest, RowsGoWhereTheirSlotsSay) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kF8E4M3}) {
    for (const int32_t block_tokens : {1, 5, 16, 32}) {
      const AttentionCase c = {"rows", {{37, 1}, {50, 1}}, 2, 2, 64, dtype, block_tokens};
      PagedKv got(c, 2), want(c, 2);
      want.Append(*host_, reference());
      GuardedMatrix keys(DType::kF32, 87, 128), values(DType::kF32, 87, 128);
      std::vector<int32_t> slots;
      for (int64_t p = 0; p < 50; ++p) {
        for (const size_t s : {size_t{0}, size_t{1}}) {
          const int64_t context = c.sequences[s].context;
          if (p >= context) continue;
          const int64_t position = p % 2 == 0 ? p / 2 : context - 1 - p / 2;
          const auto row = static_cast<int64_t>(slots.size());
          std::copy_n(want.keys(s).Row(position), 128, keys.view().Row<float>(row));
          std::copy_n(want.values(s).Row(position), 128, values.view().Row<float>(row));
          slots.push_back(want.slots(s)[static_cast<size_t>(position)]);
        }
      }
      kernels().kv_append(*device_, keys.view(), values.view(), slots.data(), got.view());
      EXPECT_TRUE(got.SameBits(want)) << GetDTypeInfo(dtype).name << ", " << block_tokens;
    }
  }
}

// What a table makes of one vector of 32 elements, its first ones those given and then zeros; the
// value is zero.
struct Stored {
  alignas(64) char key[128] = {};
  alignas(64) char value[128] = {};
  KvLayerView view(DType dtype) { return {key, value, dtype, 1, 1, 32, 256}; }
};

TEST_P(KvAppendTest, AtTheEdgesOfTheFormats) {
  // Sixteen bits saturate; Q8_0 keeps a block's largest element at +-127, F8 a vector's below 448,
  // and both a vector of zeros at zero.
  const auto store = [&](DType dtype, std::vector<float> first) {
    Stored stored;
    first.resize(32);
    std::vector<float> zeros(32);
    const int32_t slot = 0;
    kernels().kv_append(*device_, MakeView(first.data(), DType::kF32, 1, 32),
                        MakeView(zeros.data(), DType::kF32, 1, 32), &slot, stored.view(dtype));
    return stored;
  };
  const auto word = [](const char* at) {
    uint16_t bits;
    std::memcpy(&bits, at, sizeof(bits));
    return bits;
  };
  Stored stored = store(DType::kF16, {1e6f, -1e6f});
  EXPECT_EQ(HalfToFloat(word(stored.key)), 65504.0f);
  EXPECT_EQ(HalfToFloat(word(stored.key + 2)), -65504.0f);
  stored = store(DType::kBF16, {3.4e38f, -INFINITY, 1.00390625f, 1.01171875f});
  EXPECT_EQ(BFloat16ToFloat(word(stored.key)), 0x1.FEp127f);
  EXPECT_EQ(BFloat16ToFloat(word(stored.key + 2)), -0x1.FEp127f);
  EXPECT_EQ(BFloat16ToFloat(word(stored.key + 4)), 1.0f);  // half a step, to even: down, then up
  EXPECT_EQ(BFloat16ToFloat(word(stored.key + 6)), 1.015625f);
  stored = store(DType::kQ8_0, {1e6f, -1e6f, 1.0f, -2.5f});
  EXPECT_NEAR(HalfToFloat(word(stored.key + 32)), 1e6 / 127, 1e6 / 127 / 2048);
  EXPECT_EQ(stored.key[0], 127);
  EXPECT_EQ(stored.key[1], -127);
  EXPECT_EQ(word(stored.value), 0);
  EXPECT_EQ(stored.value[2], 0);
}

TEST_P(KvAppendTest, ScalesOfF8ArePowersOfTwo) {
  const struct {
    float largest;
    float scale;
    uint8_t element;  // E4M3 of the largest
  } cases[] = {{448, 1, 0x7E},     {449, 2, 0x76},     {224, 0.5f, 0x7E},       {-1, 0x1p-8f, 0xF8},
               {57344, 128, 0x7E}, {-1e6f, 128, 0xFE}, {0x1p-20f, 0x1p-14f, 8}, {0, 0x1p-14f, 0}};
  for (const auto& c : cases) {
    for (const bool in_value : {false, true}) {
      Stored stored;
      std::vector<float> x(32), zeros(32);
      x[17] = c.largest;
      x[3] = c.largest / 1024;
      const int32_t slot = 0;
      kernels().kv_append(*device_, MakeView((in_value ? zeros : x).data(), DType::kF32, 1, 32),
                          MakeView((in_value ? x : zeros).data(), DType::kF32, 1, 32), &slot,
                          stored.view(DType::kF8E4M3));
      const char* const part = in_value ? stored.value : stored.key;
      uint16_t scale;
      std::memcpy(&scale, part + 32, sizeof(scale));
      EXPECT_EQ(HalfToFloat(scale), c.scale) << c.largest;
      EXPECT_EQ(static_cast<uint8_t>(part[17]), c.element) << c.largest;
      EXPECT_EQ(static_cast<uint8_t>(part[3]), FloatToE4M3(x[3] / c.scale)) << c.largest;
      EXPECT_EQ(part[0], 0);
    }
  }
}

}  // namespace
}  // namespace pregate
