// Matrix products of every table and weight type against the reference, and the laws of a table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/quant/activations.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/weight_test.h"
#include "tests/kernels/weights.h"

namespace pregate {
namespace {

// Around tiles of 8, 16 and 64 columns, blocks of 16, 64 and 96 rows and register tiles of 6 and 8
// rows.
const std::vector<int64_t> kRows = {1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 64, 65, 97};
const std::vector<int64_t> kColumns = {1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 192};
constexpr int64_t kMostRows = 97;
constexpr int64_t kMostColumns = 192;

// For slow tables: each of their kernels, and a tile that is not full.
const std::vector<int64_t> kFewRows = {1, 9, 33};
const std::vector<int64_t> kFewColumns = {1, 33};

// Around blocks of 32 and 256 and stretches of 256; plain types also take any length, as far as the
// activations do.
std::vector<int64_t> DepthsOf(DType dtype, DType activations) {
  const int block = GetDTypeInfo(dtype).block_elements;
  if (block == 256) return {256, 512, 768};
  if (block == 32 || activations != DType::kF32) return {32, 64, 96, 256, 288, 576, 768};
  return {1, 2, 7, 32, 63, 257, 576};
}

class MatmulTest : public WeightTest {
 protected:
  void Multiply(ConstTensor x, const PackedMatrix& weight, const float* bias, Tensor out) {
    kernels().matmul(*device_, {{.x = x, .weight = weight.view(), .bias = bias, .out = out}});
  }

  // Checks out = x * weight^T + bias against the reference, to the rounding that the number of
  // additions into one accumulator explains.
  void ExpectNearReference(ConstTensor x, const GuardedMatrix& weight, const float* bias) {
    const ConstTensor w = weight.view();
    GuardedMatrix got(DType::kF32, x.rows, w.rows);
    GuardedMatrix want(DType::kF32, x.rows, w.rows);
    const PackedMatrix packed = Pack(weight);
    const PackedMatrix plain(*host_, ReferenceKernels(), w);
    EXPECT_TRUE(packed.GuardIntact());
    Multiply(x, packed, bias, got.view());
    const GuardedMatrix values = ValuesOf(x);
    ReferenceKernels().matmul(
        *host_, {{.x = values.view(), .weight = plain.view(), .bias = bias, .out = want.view()}});
    EXPECT_TRUE(got.GuardsIntact());
    const double additions =
        x.dtype == DType::kF32 ? static_cast<double>(x.cols) / 2 : static_cast<double>(x.cols) / 16;
    for (int64_t n = 0; n < w.rows; ++n) {
      const std::vector<double> parts = PartsOfRow(w, n);
      for (int64_t r = 0; r < x.rows; ++r) {
        double size = bias == nullptr ? 0 : std::fabs(double{bias[n]});
        for (int64_t k = 0; k < x.cols; ++k) {
          size += parts[static_cast<size_t>(k)] * std::fabs(ValueOf(x, r, k));
        }
        const double tolerance = (additions + 8) * kEpsilon / 2 * size + 1e-42;
        ASSERT_NEAR(got.Row(r)[n], want.Row(r)[n], tolerance)
            << "row " << r << " of " << x.rows << ", column " << n << ", depth " << x.cols;
      }
    }
  }

  double ValueOf(ConstTensor x, int64_t row, int64_t k) const {
    if (x.dtype == DType::kF32) return double{x.Row<float>(row)[k]};
    if (table().activation != nullptr) return double{table().activation(x, row, k)};
    const ActivationGroup& group = ActivationMatrix(x).Group(row, k / 32);
    return double{group.scale} * group.Quant(x.dtype, static_cast<int>(k % 32));
  }

  // x in a form that the reference reads, without loss: what the table has made of activations is
  // where a product starts, and its own rounding has tests of its own.
  GuardedMatrix ValuesOf(ConstTensor x) const {
    const bool own = x.dtype != DType::kF32 && table().activation != nullptr;
    GuardedMatrix values(own ? DType::kF32 : x.dtype, x.rows, x.cols, own ? 20 : 0);
    if (!own) {
      for (int64_t r = 0; r < x.rows; ++r) {
        const auto bytes = static_cast<size_t>(RowBytes(x.dtype, x.cols));
        std::memcpy(values.view().Row<char>(r), x.Row<char>(r), bytes);
      }
      return values;
    }
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t k = 0; k < x.cols; ++k) {
        values.view().Row<float>(r)[k] = table().activation(x, r, k);
      }
    }
    return values;
  }
};

TEST_P(MatmulTest, AgreesWithTheReference) {
  for (const DType type : ActivationTypes()) {
    for (const int64_t depth : DepthsOf(dtype(), type)) {
      if (table().slow && depth > 32 && depth % 256 != 0 && depth != 288) continue;
      SCOPED_TRACE(GetDTypeInfo(type).name);
      const GuardedMatrix weight = MakeWeights(dtype(), 37, depth, 5);
      const GuardedMatrix bias = RandomMatrix(1, 37, 6);
      const GuardedMatrix x = RandomActivations(type, 11, depth, 7);
      ExpectNearReference(x.view(), weight, nullptr);
      ExpectNearReference(x.view(), weight, bias.Row(0));
    }
  }
}

TEST_P(MatmulTest, ExtremesAgreeWithTheReference) {
  const int64_t depth = table().slow ? 256 : 768;
  for (const WeightStyle style : {WeightStyle::kZero, WeightStyle::kOnes, WeightStyle::kTopBits,
                                  WeightStyle::kTinyScales, WeightStyle::kLargeScales}) {
    SCOPED_TRACE(static_cast<int>(style));
    const GuardedMatrix weight = MakeWeights(dtype(), 17, depth, 8, style);
    for (const DType type : ActivationTypes()) {
      // Every quant at its limit, of either sign and of mixed signs; zeros; small and large.
      for (const float size : {1.0f, -1.0f, 0.0f, 1e-30f, 1e25f}) {
        if (table().slow && size == -1.0f) continue;
        GuardedMatrix x = RandomMatrix(3, depth, 9, size);
        for (int64_t k = 0; k < depth; ++k) {
          x.view().Row<float>(0)[k] = size;
          x.view().Row<float>(1)[k] = k % 3 == 0 ? size : -size;
        }
        ExpectNearReference(Activations(type, x.view()).view(), weight, nullptr);
      }
    }
  }
}

// The law: a row's result depends on that row alone. Every shape against one large product.
TEST_P(MatmulTest, EveryShapeGivesTheSameBits) {
  if (AnotherTypeWillDo()) GTEST_SKIP() << "another type of this kind is taken";
  const int64_t depth = GetDTypeInfo(dtype()).block_elements == 256 ? 512 : 288;
  const int64_t most_columns = table().slow ? kFewColumns.back() : kMostColumns;
  const GuardedMatrix weight = MakeWeights(dtype(), most_columns, depth, 10);
  const GuardedMatrix bias = RandomMatrix(1, most_columns, 11);
  const GuardedMatrix x = RandomMatrix(kMostRows, depth, 12);
  const PackedMatrix packed = Pack(weight);
  for (const DType type : ActivationTypes()) {
    GuardedMatrix whole(DType::kF32, kMostRows, most_columns);
    Multiply(Activations(type, x.view()).view(), packed, bias.Row(0), whole.view());
    for (const int64_t columns : table().slow ? kFewColumns : kColumns) {
      const PackedMatrix few = Pack(SomeRows(weight, 0, columns));
      for (const int64_t rows : table().slow ? kFewRows : kRows) {
        // The last rows of x, so that a row changes its place in the block.
        const int64_t first = kMostRows - rows;
        GuardedMatrix part(DType::kF32, rows, columns);
        Multiply(Activations(type, SomeRows(x, first, rows)).view(), few, bias.Row(0), part.view());
        ASSERT_TRUE(part.GuardsIntact());
        for (int64_t r = 0; r < rows; ++r) {
          const size_t bytes = static_cast<size_t>(columns) * sizeof(float);
          ASSERT_EQ(std::memcmp(part.Row(r), whole.Row(first + r), bytes), 0)
              << rows << " x " << columns << ", row " << r;
        }
      }
    }
  }
}

// The same where sums are as large as they get: however a table adds many rows' products.
TEST_P(MatmulTest, ExtremesGiveTheSameBitsInAnyBatch) {
  if (AnotherTypeWillDo()) GTEST_SKIP() << "another type of this kind is taken";
  constexpr int64_t kDepth = 512, kManyRows = 50, kFew = 2;
  for (const WeightStyle style : {WeightStyle::kOnes, WeightStyle::kTopBits}) {
    const PackedMatrix weight = Pack(MakeWeights(dtype(), 35, kDepth, 16, style));
    GuardedMatrix x = RandomMatrix(kManyRows, kDepth, 17);
    for (int64_t r = 0; r + 1 < kManyRows; ++r) {
      // Quants of 32512 and of all sizes below, of one sign or of mixed ones.
      for (int64_t k = 0; k < kDepth; ++k) {
        const float quant = static_cast<float>(32512 - (k % 32) * r);
        x.view().Row<float>(r)[k] = r % 3 == 0   ? quant
                                    : r % 3 == 1 ? -quant
                                    : k % 2      ? quant
                                                 : -quant;
      }
    }
    for (const DType type : ActivationTypes()) {
      GuardedMatrix many(DType::kF32, kManyRows, 35);
      Multiply(Activations(type, x.view()).view(), weight, nullptr, many.view());
      for (int64_t r = 0; r < kManyRows; r += kFew) {
        GuardedMatrix few(DType::kF32, kFew, 35);
        Multiply(Activations(type, SomeRows(x, r, kFew)).view(), weight, nullptr, few.view());
        for (int64_t i = 0; i < kFew; ++i) {
          ASSERT_EQ(std::memcmp(few.Row(i), many.Row(r + i), 35 * sizeof(float)), 0) << r + i;
        }
      }
    }
  }
}

// Products of one call are those of a call each, whatever their types and sizes.
TEST_P(MatmulTest, ProductsTogetherAreProductsAlone) {
  if (AnotherTypeWillDo()) GTEST_SKIP() << "another type of this kind is taken";
  const bool floats = kernels().activation_dtype[static_cast<int>(DType::kF16)] == DType::kF32;
  const DType other = dtype() == DType::kF16 && floats ? DType::kF32 : DType::kQ8_0;
  const GuardedMatrix bias = RandomMatrix(1, 50, 20);
  const PackedMatrix weights[] = {Pack(MakeWeights(dtype(), 50, 256, 21)),
                                  Pack(MakeWeights(other, 7, 256, 22)),
                                  Pack(MakeWeights(dtype(), 33, 256, 23))};
  for (const DType type : ActivationTypes()) {
    for (const int64_t rows : {1, table().slow ? 35 : 70}) {
      const GuardedMatrix x = RandomActivations(type, rows, 256, 24);
      std::vector<GuardedMatrix> together, alone;
      std::vector<Product> products;
      for (const PackedMatrix& weight : weights) {
        const float* b = weight.view().rows == 50 ? bias.Row(0) : nullptr;
        alone.emplace_back(DType::kF32, rows, weight.view().rows);
        Multiply(x.view(), weight, b, alone.back().view());
        together.emplace_back(DType::kF32, rows, weight.view().rows);
        products.push_back(
            {.x = x.view(), .weight = weight.view(), .bias = b, .out = together.back().view()});
      }
      kernels().matmul(*device_, products);
      for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(together[i].SameBits(alone[i])) << i;
    }
  }
}

TEST_P(MatmulTest, ThreadsAndRepeatsGiveTheSameBits) {
  if (AnotherTypeWillDo()) GTEST_SKIP() << "another type of this kind is taken";
  const int64_t depth = 256;
  const PackedMatrix weight = Pack(MakeWeights(dtype(), 150, depth, 13));
  for (const DType type : ActivationTypes()) {
    for (const int64_t rows : {1, 5, 300}) {
      const GuardedMatrix x = RandomActivations(type, rows, depth, 14);
      GuardedMatrix first(DType::kF32, rows, 150);
      Multiply(x.view(), weight, nullptr, first.view());
      if (table().slow && rows > 100) continue;
      for (const int threads : {1, 2, 5, 5}) {
        if (table().slow && threads > 1) break;
        const std::unique_ptr<Device> device = MakeDevice(threads);
        GuardedMatrix again(DType::kF32, rows, 150);
        kernels().matmul(*device, {{.x = x.view(), .weight = weight.view(), .out = again.view()}});
        EXPECT_TRUE(again.SameBits(first)) << threads << " threads, " << rows << " rows";
      }
    }
  }
}

TEST_P(MatmulTest, NoRowsAreNoWork) {
  const PackedMatrix weight = Pack(MakeWeights(dtype(), 16, 256, 15));
  for (const DType type : ActivationTypes()) {
    GuardedMatrix out(DType::kF32, 0, 16);
    const GuardedMatrix x(type, 0, 256);
    Multiply(x.view(), weight, nullptr, out.view());
    EXPECT_TRUE(out.GuardsIntact());
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, MatmulTest, TablesAndTypes(), TableAndTypeName);

// The reference itself, on numbers worked out by hand.
TEST(MatmulReferenceTest, HandMadeProduct) {
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  const float x[] = {1, 2, 3, -1, 0, 4};
  const float w[] = {1, 0, -1, 0.5f, 2, 1};
  const float bias[] = {10, 20};
  float out[4];
  const PackedWeight weight{w, DType::kF32, 2, 3};  // the reference's form is the file's
  ReferenceKernels().matmul(*device,
                            {{.x = MakeView(static_cast<const void*>(x), DType::kF32, 2, 3),
                              .weight = weight,
                              .bias = bias,
                              .out = MakeView(static_cast<void*>(out), DType::kF32, 2, 2)}});
  EXPECT_THAT(out, testing::ElementsAre(8, 27.5f, 5, 23.5f));
}

}  // namespace
}  // namespace pregate
