// The block formats, quantised activations and the embedding table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/quant/activations.h"
#include "kernels/quant/dequantize.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/table_test.h"
#include "tests/kernels/weights.h"

namespace pregate {
namespace {

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// dequantize_golden.txt was made by make_dequantize_golden.py with an implementation not ours.
TEST(DequantizeTest, BitForBitAsTheFormatsSay) {
  std::ifstream golden("tests/kernels/dequantize_golden.txt");
  int lines = 0;
  std::string name, block_hex, value_hex;
  while (golden >> name >> block_hex >> value_hex) {
    ++lines;
    SCOPED_TRACE(name);
    const std::string block = FromHex(block_hex);
    const std::string values = FromHex(value_hex);
    const auto dtype = std::find_if(kWeightTypes.begin(), kWeightTypes.end(),
                                    [&](DType d) { return GetDTypeInfo(d).name == name; });
    ASSERT_NE(dtype, kWeightTypes.end());
    ASSERT_EQ(block.size(), static_cast<size_t>(GetDTypeInfo(*dtype).block_bytes));
    const int cols = GetDTypeInfo(*dtype).block_elements;
    std::vector<float> want(static_cast<size_t>(cols)), got(static_cast<size_t>(cols));
    ASSERT_EQ(values.size(), want.size() * sizeof(float));
    std::memcpy(want.data(), values.data(), values.size());
    DequantizeRow(*dtype, block.data(), cols, got.data());
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(std::memcmp(&want[i], &got[i], sizeof(float)), 0)
          << "element " << i << ": " << got[i] << " instead of " << want[i];
    }
  }
  EXPECT_EQ(lines, 27);
}

using EmbedTest = TableTest;
INSTANTIATE_TEST_SUITE_P(Tables, EmbedTest, testing::ValuesIn(TablesUnderTest()), TableName);

// Tables whose quantised activations have the form of kernels/quant/activations.h, which these
// tests know to the byte.
class QuantizeTest : public TableTest {
 protected:
  void SetUp() override {
    TableTest::SetUp();
    if (GetParam().activation != nullptr) GTEST_SKIP() << "activations have a form of their own";
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, QuantizeTest, testing::ValuesIn(TablesUnderTest()), TableName);

TEST_P(QuantizeTest, HandMadeRow) {
  GuardedMatrix x(DType::kF32, 1, 64);
  float* row = x.view().Row<float>(0);
  for (int i = 0; i < 64; ++i) row[i] = 0;
  row[0] = 65024;    // the largest: scale 2
  row[1] = -65024;   // -32512
  row[2] = 3;        // 1.5, to even: 2
  row[3] = 5;        // 2.5, to even: 2
  row[4] = 256;      // 128: 256 - 128, but no byte is -128, so 129
  row[16] = -1;      // -0.5, to even: 0
  row[17] = -1.25f;  // -1
  row[18] = 762;     // 381: 256 + 125
  GuardedMatrix out(DType::kQ16Act, 1, 64, 0);
  kernels().quantize_rows(*device_, {{x.view(), out.view()}});
  const ActivationMatrix matrix(out.view());
  const ActivationGroup& q = matrix.Group(0, 0);
  EXPECT_EQ(q.scale, 2.0f);
  const std::vector<int> want = {32512, -32512, 2, 2, 129, 0};
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(q.Quant(DType::kQ16Act, i), want[static_cast<size_t>(i)]) << i;
  EXPECT_EQ(q.Quant(DType::kQ16Act, 16), 0);
  EXPECT_EQ(q.Quant(DType::kQ16Act, 17), -1);
  EXPECT_EQ(q.high[18], 1);
  EXPECT_EQ(q.low[18], 125);
  EXPECT_EQ(q.scaled_sum, 2.0f * (133 + 380));
  EXPECT_EQ(q.minus8, -8 * (133 + 380));
  EXPECT_EQ(q.minus16, -16 * (133 + 380));
  EXPECT_EQ(q.minus128, -128 * (133 + 380));
  EXPECT_EQ(q.minus32[0], -32 * 133);
  EXPECT_EQ(q.minus32[1], -32 * 380);
  EXPECT_EQ(matrix.Group(0, 1).scale, 0.0f);
  EXPECT_EQ(matrix.Group(0, 1).scaled_sum, 0.0f);
  EXPECT_TRUE(out.GuardsIntact());
}

TEST_P(QuantizeTest, SameBytesAsTheReference) {
  const float subnormal = std::numeric_limits<float>::denorm_min();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float size : {1.0f, 0.0f, 1e-38f, 150 * subnormal, 3e38f, infinity}) {
    for (const int64_t cols : {32, 64, 576}) {
      GuardedMatrix x = RandomMatrix(13, cols, 16, std::isinf(size) ? 1.0f : size);
      if (std::isinf(size)) x.view().Row<float>(5)[7] = -infinity;
      for (const DType type : {DType::kQ16Act, DType::kQ8Act}) {
        GuardedMatrix got(type, 13, cols, 0);
        GuardedMatrix want(type, 13, cols, 0);
        kernels().quantize_rows(*device_, {{x.view(), got.view()}});
        reference().quantize_rows(*host_, {{x.view(), want.view()}});
        EXPECT_TRUE(got.SameBits(want)) << size << ", " << cols << " columns";
        EXPECT_TRUE(got.GuardsIntact());
      }
    }
  }
}

// An element is off by half a step, or by one where its low byte would be -128: what keeps a
// product with quantised activations near the product with the activations themselves.
TEST_P(QuantizeTest, ErrorIsAStepAtMost) {
  const GuardedMatrix x = RandomMatrix(7, 288, 17, 30.0f);
  GuardedMatrix out(DType::kQ16Act, 7, 288, 0);
  kernels().quantize_rows(*device_, {{x.view(), out.view()}});
  for (int64_t r = 0; r < 7; ++r) {
    for (int64_t k = 0; k < 288; ++k) {
      const ActivationGroup& q = ActivationMatrix(out.view()).Group(r, k / 32);
      const int i = static_cast<int>(k % 32);
      const double step = q.scale;
      const double bound = q.low[i] == -127 ? 1.51 : 0.51;
      ASSERT_NEAR(step * q.Quant(DType::kQ16Act, i), x.Row(r)[k], step * bound);
      ASSERT_GT(q.high[i], -128);
      ASSERT_GT(q.low[i], -128);
    }
  }
}

TEST_P(QuantizeTest, OneByteIsOffByHalfAStep) {
  const GuardedMatrix x = RandomMatrix(7, 288, 19, 30.0f);
  GuardedMatrix out(DType::kQ8Act, 7, 288, 0);
  kernels().quantize_rows(*device_, {{x.view(), out.view()}});
  for (int64_t r = 0; r < 7; ++r) {
    for (int64_t k = 0; k < 288; ++k) {
      const ActivationGroup& q = ActivationMatrix(out.view()).Group(r, k / 32);
      ASSERT_NEAR(double{q.scale} * q.high[k % 32], x.Row(r)[k], 0.51 * double{q.scale});
    }
  }
}

TEST_P(EmbedTest, EmbedsRowsOfEveryType) {
  const std::vector<int32_t> ids = {3, 0, 18, 3, 7};
  for (const DType dtype : kWeightTypes) {
    SCOPED_TRACE(GetDTypeInfo(dtype).name);
    const GuardedMatrix table = MakeWeights(dtype, 19, 256, 18);
    GuardedMatrix out(DType::kF32, static_cast<int64_t>(ids.size()), 256);
    const PackedMatrix packed(*device_, kernels(), table.view());
    kernels().embed(*device_, packed.view(), ids.data(), 1.5f, out.view());
    EXPECT_TRUE(out.GuardsIntact());
    std::vector<float> row(256);
    for (size_t r = 0; r < ids.size(); ++r) {
      DequantizeRow(dtype, table.view().Row<char>(ids[r]), 256, row.data());
      const std::vector<double> parts = PartsOfRow(table.view(), ids[r]);
      for (size_t k = 0; k < row.size(); ++k) {
        ASSERT_NEAR(out.Row(static_cast<int64_t>(r))[k], row[k] * 1.5f, 2 * kEpsilon * parts[k])
            << r << ", " << k;
      }
    }
  }
}

}  // namespace
}  // namespace pregate
