// Products with weights of 13 bits, of every table against the reference, and the laws of a table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "kernels/quant/dequantize.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/quantize_weights.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/table_test.h"
#include "tests/kernels/weight_test.h"
#include "tests/kernels/weights.h"

namespace pregate {
namespace {

// Around register tiles of 6 and 16 rows, tiles of 48 and 128 rows and panels of 16 outputs.
const std::vector<int64_t> kRows = {1, 5, 6, 7, 12, 17, 47, 48, 49, 97, 129};
const std::vector<int64_t> kOutputs = {1, 7, 8, 9, 15, 16, 17, 33, 96};
const std::vector<int64_t> kDepths = {128, 256, 384, 1536};

class WideMatmulTest : public TableTest {
 protected:
  GuardedMatrix Multiply(const Kernels& table, ConstTensor x, const GuardedMatrix& weight,
                         const float* bias, Device* device = nullptr) {
    const PackedMatrix packed(*device_, table, weight.view());
    EXPECT_TRUE(packed.GuardIntact());
    GuardedMatrix out(DType::kF32, x.rows, weight.view().rows);
    table.matmul(device == nullptr ? *device_ : *device,
                 {{.x = x, .weight = packed.view(), .bias = bias, .out = out.view()}});
    EXPECT_TRUE(out.GuardsIntact());
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, WideMatmulTest, testing::ValuesIn(TablesUnderTest()), TableName);

TEST_P(WideMatmulTest, ByHand) {
  // Weights 4095 to 1 with a scale of 1, rows with a largest of 8190: quants are halves of them.
  GuardedMatrix weight(DType::kQ13, 2, 128), x(DType::kF32, 1, 128);
  std::vector<float> values(128);
  for (size_t i = 0; i < 128; ++i) values[i] = static_cast<float>(4095 - i);
  QuantizeRow(DType::kQ13, values.data(), 128, weight.view().Row<char>(0));
  std::fill(values.begin(), values.end(), -4095.0f);
  QuantizeRow(DType::kQ13, values.data(), 128, weight.view().Row<char>(1));
  for (int i = 0; i < 128; ++i) x.view().Row<float>(0)[i] = 0;
  x.view().Row<float>(0)[0] = 8190;
  x.view().Row<float>(0)[1] = -4;
  x.view().Row<float>(0)[2] = 1;    // half a step, to even: 0
  x.view().Row<float>(0)[127] = 3;  // a step and a half, to even: 2 steps
  const float bias[2] = {0, 1};
  const GuardedMatrix out = Multiply(kernels(), x.view(), weight, bias);
  EXPECT_EQ(out.Row(0)[0], 8190.0f * 4095 - 4 * 4094 + 4 * (4095 - 127));
  EXPECT_EQ(out.Row(0)[1], -4095.0f * 8190 + 1);  // the others cancel
}

TEST_P(WideMatmulTest, LargestSumsFit) {
  GuardedMatrix weight(DType::kQ13, 1, 256), x(DType::kF32, 7, 256);
  const std::vector<float> values(256, -1.0f);
  QuantizeRow(DType::kQ13, values.data(), 256, weight.view().Row<char>(0));
  for (int64_t r = 0; r < 7; ++r) std::fill_n(x.view().Row<float>(r), 256, -1.0f);
  const GuardedMatrix out = Multiply(kernels(), x.view(), weight, nullptr);
  for (int64_t r = 0; r < 7; ++r) EXPECT_NEAR(out.Row(r)[0], 256, 1e-4);
}

TEST_P(WideMatmulTest, AgreesWithTheReference) {
  std::vector<float> bias(96);
  Numbers numbers(9);
  for (float& b : bias) b = numbers.Next();
  for (const int64_t depth : kDepths) {
    const GuardedMatrix all = MakeQ13Weights(96, depth, 3);
    for (const int64_t outputs : kOutputs) {
      const Tensor some = SomeRows(all, 0, outputs);
      GuardedMatrix weight(DType::kQ13, outputs, depth);
      for (int64_t n = 0; n < outputs; ++n) {
        std::memcpy(weight.view().Row<char>(n), some.Row<char>(n),
                    static_cast<size_t>(RowBytes(DType::kQ13, depth)));
      }
      for (const int64_t rows : kRows) {
        if (outputs != 33 && rows != 49 && rows != 1) continue;  // each with a few of the other
        const GuardedMatrix x = RandomMatrix(rows, depth, 4, 3.0f);
        const GuardedMatrix got = Multiply(kernels(), x.view(), weight, bias.data());
        const GuardedMatrix want = Multiply(reference(), x.view(), weight, bias.data());
        // Integers are exact; each group adds three roundings of a sum of |w x| < 3 a product,
        // which are 0.75 on average.
        const double size = 0.75 * static_cast<double>(depth) + 1;
        const double tolerance = (static_cast<double>(depth) / 128 + 4) * kEpsilon / 2 * size;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t n = 0; n < outputs; ++n) {
            ASSERT_NEAR(got.Row(r)[n], want.Row(r)[n], tolerance)
                << "row " << r << " of " << rows << ", output " << n << " of " << outputs;
          }
        }
      }
    }
  }
}

// What the rounding takes: the product is near that of the floats themselves.
TEST_P(WideMatmulTest, IsNearTheProductOfFloats) {
  constexpr int64_t kDepth = 1536;
  const GuardedMatrix x = RandomMatrix(20, kDepth, 6), w = RandomMatrix(33, kDepth, 7);
  GuardedMatrix weight(DType::kQ13, 33, kDepth);
  for (int64_t n = 0; n < 33; ++n) {
    QuantizeRow(DType::kQ13, w.Row(n), kDepth, weight.view().Row<char>(n));
  }
  const GuardedMatrix got = Multiply(kernels(), x.view(), weight, nullptr);
  for (int64_t r = 0; r < 20; ++r) {
    for (int64_t n = 0; n < 33; ++n) {
      double exact = 0;
      for (int64_t k = 0; k < kDepth; ++k) exact += double{x.Row(r)[k]} * w.Row(n)[k];
      // Each operand is off by half of 1/4095 at most, at random; a product has 1/3 of variance
      // beside that error: six deviations.
      const double deviation = std::sqrt(kDepth * 2.0 / 3) / 4095 / std::sqrt(12.0);
      ASSERT_NEAR(got.Row(r)[n], exact, 6 * deviation);
    }
  }
}

TEST_P(WideMatmulTest, RowsDoNotDependOnTheirBatchOrThreads) {
  const GuardedMatrix weight = MakeQ13Weights(50, 384, 8), x = RandomMatrix(101, 384, 9);
  const GuardedMatrix whole = Multiply(kernels(), x.view(), weight, nullptr);
  const std::unique_ptr<Device> device = MakeDevice(1);
  for (const int64_t rows : {1, 4, 6, 13, 60}) {
    for (int64_t first = 0; first + rows <= 101; first += 1 + rows) {
      const GuardedMatrix part =
          Multiply(kernels(), SomeRows(x, first, rows), weight, nullptr, device.get());
      for (int64_t r = 0; r < rows; ++r) {
        ASSERT_EQ(std::memcmp(part.Row(r), whole.Row(first + r), 50 * sizeof(float)), 0)
            << rows << " rows from " << first << ", row " << r;
      }
    }
  }
}

TEST_P(WideMatmulTest, ProductsOfOneCall) {
  // Two that share x, one that adds to what is there, one of floats.
  const GuardedMatrix x = RandomMatrix(9, 128, 1), y = RandomMatrix(7, 256, 2);
  const GuardedMatrix a = MakeQ13Weights(20, 128, 3), b = MakeQ13Weights(5, 128, 4);
  const GuardedMatrix c = MakeQ13Weights(17, 256, 5), d = RandomMatrix(11, 128, 6);
  const PackedMatrix pa(*device_, kernels(), a.view()), pb(*device_, kernels(), b.view());
  const PackedMatrix pc(*device_, kernels(), c.view()), pd(*device_, kernels(), d.view());
  GuardedMatrix oa(DType::kF32, 9, 20), ob(DType::kF32, 9, 5), od(DType::kF32, 9, 11);
  GuardedMatrix oc = RandomMatrix(7, 17, 7), none(DType::kF32, 0, 20);
  kernels().matmul(*device_,
                   {{.x = x.view(), .weight = pa.view(), .out = oa.view()},
                    {.x = x.view(), .weight = pd.view(), .out = od.view()},
                    {.x = x.view(), .weight = pb.view(), .out = ob.view()},
                    {.x = SomeRows(x, 0, 0), .weight = pa.view(), .out = none.view()},
                    {.x = y.view(), .weight = pc.view(), .accumulate = true, .out = oc.view()}});
  EXPECT_TRUE(oa.SameBits(Multiply(kernels(), x.view(), a, nullptr)));
  EXPECT_TRUE(ob.SameBits(Multiply(kernels(), x.view(), b, nullptr)));
  EXPECT_TRUE(od.SameBits(Multiply(kernels(), x.view(), d, nullptr)));
  const GuardedMatrix added = Multiply(kernels(), y.view(), c, nullptr);
  const GuardedMatrix before = RandomMatrix(7, 17, 7);
  for (int64_t r = 0; r < 7; ++r) {
    for (int64_t n = 0; n < 17; ++n) {
      EXPECT_NEAR(oc.Row(r)[n], before.Row(r)[n] + added.Row(r)[n], 1e-4);
    }
  }
}

TEST_P(WideMatmulTest, EdgesOfFloats) {
  // Rows of nothing, of the smallest numbers and with an infinity: no crash, zeros stay zeros.
  const GuardedMatrix weight = MakeQ13Weights(16, 128, 3);
  GuardedMatrix x(DType::kF32, 3, 128);
  for (int64_t r = 0; r < 3; ++r) std::fill_n(x.view().Row<float>(r), 128, 0.0f);
  x.view().Row<float>(1)[5] = std::numeric_limits<float>::denorm_min();
  x.view().Row<float>(2)[5] = std::numeric_limits<float>::infinity();
  const GuardedMatrix out = Multiply(kernels(), x.view(), weight, nullptr);
  for (int n = 0; n < 16; ++n) {
    EXPECT_EQ(out.Row(0)[n], 0.0f);
    EXPECT_EQ(out.Row(1)[n], 0.0f);
  }
}

TEST(Q13Test, ElementsAreOffByHalfAStep) {
  const GuardedMatrix x = RandomMatrix(3, 384, 5, 7.0f);
  for (int64_t r = 0; r < 3; ++r) {
    std::vector<char> row(static_cast<size_t>(RowBytes(DType::kQ13, 384)));
    std::vector<float> back(384);
    QuantizeRow(DType::kQ13, x.Row(r), 384, row.data());
    DequantizeRow(DType::kQ13, row.data(), 384, back.data());
    for (int i = 0; i < 384; ++i) {
      const auto [least, most] =
          std::minmax_element(x.Row(r) + i / 128 * 128, x.Row(r) + i / 128 * 128 + 128);
      const double step = std::max(-*least, *most) / kMaxQ13;
      EXPECT_NEAR(back[static_cast<size_t>(i)], x.Row(r)[i], 0.501 * step);
    }
  }
}

}  // namespace
}  // namespace pregate
