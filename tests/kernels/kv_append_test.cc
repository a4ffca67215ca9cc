// kv_append of every table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

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
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0}) {
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

TEST_P(KvAppendTest, AtTheEdgesOfTheFormats) {
  // Half saturates; Q8_0 keeps a block's largest element at +-127 and a block of zeros at zero.
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    alignas(64) char memory[256] = {};
    const KvLayerView kv = {memory, memory + 128, dtype, 1, 1, 32, 256};
    float k[32] = {1e6f, -1e6f, 1.0f, -2.5f}, v[32] = {};
    const int32_t slot = 0;
    kernels().kv_append(*device_, MakeView(k, DType::kF32, 1, 32), MakeView(v, DType::kF32, 1, 32),
                        &slot, kv);
    uint16_t half;  // the first element, or the scale behind 32 quants
    std::memcpy(&half, memory + (dtype == DType::kF16 ? 0 : 32), sizeof(half));
    if (dtype == DType::kF16) {
      EXPECT_EQ(HalfToFloat(half), 65504.0f);
    } else {
      EXPECT_NEAR(HalfToFloat(half), 1e6 / 127, 1e6 / 127 / 2048);
      EXPECT_EQ(memory[0], 127);
      EXPECT_EQ(memory[1], -127);
    }
    EXPECT_EQ(memory[128], 0);
    EXPECT_EQ(memory[130], 0);
  }
}

}  // namespace
}  // namespace pregate
