// rms_norm, rope_table, rope, gated_activation, add and gather_rows of every table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/table_test.h"

namespace pregate {
namespace {

// Elements of `got` lie within `tolerance(row, column)` of `want`, and nothing around was written.
void ExpectNear(const GuardedMatrix& got, const GuardedMatrix& want,
                const std::function<double(int64_t, int64_t)>& tolerance) {
  EXPECT_TRUE(got.GuardsIntact());
  for (int64_t r = 0; r < want.view().rows; ++r) {
    for (int64_t i = 0; i < want.view().cols; ++i) {
      const double error = std::abs(double{got.Row(r)[i]} - want.Row(r)[i]);
      ASSERT_LE(error, tolerance(r, i))
          << "row " << r << ", column " << i << " of " << want.view().cols << ": " << got.Row(r)[i];
    }
  }
}

// Row `r` of a matrix as a matrix of its own.
Tensor RowView(const GuardedMatrix& matrix, int64_t r) {
  Tensor view = matrix.view();
  view.data = view.Row<char>(r);
  view.rows = 1;
  return view;
}

// Law: each row alone gives the bits that it gets in the batch. `run` computes out from row views.
void ExpectRowsIndependent(const GuardedMatrix& batch,
                           const std::function<void(int64_t r, Tensor out)>& run) {
  GuardedMatrix alone(DType::kF32, 1, batch.view().cols);
  for (int64_t r = 0; r < batch.view().rows; r += 1 + r / 4) {
    run(r, alone.view());
    ASSERT_EQ(std::memcmp(alone.Row(0), batch.Row(r),
                          static_cast<size_t>(batch.view().cols) * sizeof(float)),
              0)
        << "row " << r;
  }
}

class ElementwiseTest : public TableTest {};
INSTANTIATE_TEST_SUITE_P(Tables, ElementwiseTest, testing::ValuesIn(TablesUnderTest()), TableName);

TEST_P(ElementwiseTest, RmsNormOfThreeAndFour) {
  // mean(9, 16, 0, 0) = 6.25, its root 2.5.
  float x[4] = {3, 4, 0, 0};
  const float weight[4] = {1, 1, 1, 0.5f};
  const ConstTensor w = MakeView(weight, DType::kF32, 1, 4);
  const Tensor view = MakeView(static_cast<void*>(x), DType::kF32, 1, 4);
  kernels().rms_norm(*device_, view, w, 1.0f, 0.0f, view);  // in place; weights become 2, 2, 2, 1.5
  EXPECT_FLOAT_EQ(x[0], 2.4f);
  EXPECT_FLOAT_EQ(x[1], 3.2f);
  EXPECT_EQ(x[2], 0.0f);
  float zeros[4] = {};
  const Tensor zero_view = MakeView(static_cast<void*>(zeros), DType::kF32, 1, 4);
  kernels().rms_norm(*device_, zero_view, w, 0.0f, 1e-6f, zero_view);
  EXPECT_EQ(zeros[0], 0.0f);  // epsilon keeps it finite
}

TEST_P(ElementwiseTest, RmsNorm) {
  std::vector<MatrixCase> cases = kMatrixCases;
  cases.push_back({3, 9003});  // more than a block of a GPU keeps in registers
  for (const auto& [rows, cols] : cases) {
    const GuardedMatrix x = RandomMatrix(rows, cols, 1, 3.0f), weight = RandomMatrix(1, cols, 2);
    GuardedMatrix got(DType::kF32, rows, cols), want(DType::kF32, rows, cols);
    kernels().rms_norm(*device_, x.view(), weight.view(), 1.0f, 1e-5f, got.view());
    reference().rms_norm(*host_, x.view(), weight.view(), 1.0f, 1e-5f, want.view());
    ExpectNear(got, want, [&, k = cols](int64_t r, int64_t i) {
      return (8 + static_cast<double>(k) / 16) * kEpsilon * std::abs(want.Row(r)[i]);
    });
    ExpectRowsIndependent(got, [&](int64_t r, Tensor out) {
      kernels().rms_norm(*device_, RowView(x, r), weight.view(), 1.0f, 1e-5f, out);
    });
  }
}

TEST_P(ElementwiseTest, GatedActivation) {
  for (const Activation activation :
       {Activation::kSilu, Activation::kGeluTanh, Activation::kRelu, Activation::kGelu}) {
    for (const auto& [rows, cols] : kMatrixCases) {
      const GuardedMatrix gate = RandomMatrix(rows, cols, 3, 12.0f);
      const GuardedMatrix up = RandomMatrix(rows, cols, 4, 2.0f);
      GuardedMatrix got(DType::kF32, rows, cols), want(DType::kF32, rows, cols);
      kernels().gated_activation(*device_, activation, {{gate.view(), up.view(), {}, got.view()}});
      reference().gated_activation(*host_, activation, {{gate.view(), up.view(), {}, want.view()}});
      ExpectNear(got, want, [&](int64_t r, int64_t i) {
        // The exponent is up to 24 (silu) or 140 (gelu) large: its rounding counts in the result.
        const double exponent = std::abs(gate.Row(r)[i]) * (1 + std::pow(gate.Row(r)[i], 2) / 14);
        return (8 + 2 * exponent) * kEpsilon * std::abs(want.Row(r)[i]) + 1e-30;
      });
      ExpectRowsIndependent(got, [&](int64_t r, Tensor out) {
        kernels().gated_activation(*device_, activation,
                                   {{RowView(gate, r), RowView(up, r), {}, out}});
      });
      // In place over either input.
      GuardedMatrix in_place = RandomMatrix(rows, cols, 3, 12.0f);
      kernels().gated_activation(*device_, activation,
                                 {{in_place.view(), up.view(), {}, in_place.view()}});
      EXPECT_TRUE(in_place.SameBits(got));
    }
  }
}

TEST_P(ElementwiseTest, ActivationsAtHandMadePoints) {
  const float points[] = {0, 1, -1, 100, -100, 1e30f, -1e30f};
  const float one[7] = {1, 1, 1, 1, 1, 1, 1};
  float out[7];
  const auto run = [&](Activation activation) {
    kernels().gated_activation(*device_, activation,
                               {{MakeView(points, DType::kF32, 1, 7),
                                 MakeView(one, DType::kF32, 1, 7),
                                 {},
                                 MakeView(static_cast<void*>(out), DType::kF32, 1, 7)}});
  };
  run(Activation::kSilu);  // x / (1 + e^-x)
  EXPECT_EQ(out[0], 0.0f);
  EXPECT_NEAR(out[1], 0.731058579, 1e-6);
  EXPECT_NEAR(out[2], -0.268941421, 1e-6);
  EXPECT_EQ(out[3], 100.0f);
  EXPECT_NEAR(out[4], 0.0, 1e-30);
  EXPECT_EQ(out[5], 1e30f);
  run(Activation::kGeluTanh);  // tanh form: 0.841192 at 1
  EXPECT_EQ(out[0], 0.0f);
  EXPECT_NEAR(out[1], 0.841191991, 1e-6);
  EXPECT_NEAR(out[2], -0.158808009, 1e-6);
  EXPECT_EQ(out[3], 100.0f);
  EXPECT_NEAR(out[4], 0.0, 1e-30);
  run(Activation::kGelu);  // 1 times 0.841344746, the normal distribution at 1
  EXPECT_EQ(out[0], 0.0f);
  EXPECT_NEAR(out[1], 0.841344746, 1e-6);
  EXPECT_NEAR(out[2], -0.158655254, 1e-6);
  EXPECT_EQ(out[3], 100.0f);
  EXPECT_NEAR(out[4], 0.0, 1e-30);
  EXPECT_EQ(out[5], 1e30f);
  EXPECT_EQ(out[6], 0.0f);
  run(Activation::kTanh);
  EXPECT_EQ(out[0], 0.0f);
  EXPECT_NEAR(out[1], 0.761594156, 1e-6);
  EXPECT_NEAR(out[2], -0.761594156, 1e-6);
  EXPECT_EQ(out[5], 1.0f);
  EXPECT_EQ(out[6], -1.0f);
  run(Activation::kRelu);
  EXPECT_EQ(out[1], 1.0f);
  EXPECT_EQ(out[2], 0.0f);
  EXPECT_EQ(out[5], 1e30f);
}

TEST_P(ElementwiseTest, AddIsExact) {
  for (const auto& [rows, cols] : kMatrixCases) {
    const GuardedMatrix a = RandomMatrix(rows, cols, 5), b = RandomMatrix(rows, cols, 6);
    GuardedMatrix got(DType::kF32, rows, cols), in_place = RandomMatrix(rows, cols, 5);
    kernels().add(*device_, a.view(), b.view(), got.view());
    kernels().add(*device_, in_place.view(), b.view(), in_place.view());
    EXPECT_TRUE(in_place.SameBits(got));
    GuardedMatrix want(DType::kF32, rows, cols);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < cols; ++i) {
        want.view().Row<float>(r)[i] = a.Row(r)[i] + b.Row(r)[i];
      }
    }
    EXPECT_TRUE(got.SameBits(want));
  }
}

TEST_P(ElementwiseTest, GatherRowsCopies) {
  for (const auto& [rows, cols] : kMatrixCases) {
    const GuardedMatrix x = RandomMatrix(rows, cols, 7);
    std::vector<int32_t> picked;
    for (int64_t i = 0; i < rows + 2; ++i) picked.push_back(static_cast<int32_t>(i * 7 % rows));
    GuardedMatrix got(DType::kF32, rows + 2, cols), want(DType::kF32, rows + 2, cols);
    kernels().gather_rows(*device_, x.view(), picked.data(), got.view());
    for (int64_t i = 0; i < rows + 2; ++i) {
      std::copy_n(x.Row(picked[static_cast<size_t>(i)]), cols, want.view().Row<float>(i));
    }
    EXPECT_TRUE(got.SameBits(want));
  }
}

TEST_P(ElementwiseTest, RopeTableFormsAnglesInDouble) {
  const int32_t positions[] = {0, 1, 131071};
  const float inv_freq[] = {1.0f, 0.1f, 1e-4f};
  GuardedMatrix table(DType::kF32, 3, 6);
  kernels().rope_table(*device_, positions, inv_freq, 2.0f, table.view());
  EXPECT_TRUE(table.GuardsIntact());
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t i = 0; i < 3; ++i) {
      const double angle = double{inv_freq[i]} * positions[r];
      EXPECT_NEAR(table.Row(r)[2 * i], 2 * std::cos(angle), 2 * kEpsilon);
      EXPECT_NEAR(table.Row(r)[2 * i + 1], 2 * std::sin(angle), 2 * kEpsilon);
    }
  }
}

TEST_P(ElementwiseTest, RopeTableRowsAreTheReferences) {
  for (const auto& c : kRopeCases) {
    const GuardedMatrix inv_freq = RandomMatrix(1, c.rotated / 2, 10);
    std::vector<int32_t> positions;
    for (int32_t r = 0; r < c.rows; ++r) positions.push_back(r * 977);
    GuardedMatrix got(DType::kF32, c.rows, c.rotated), want(DType::kF32, c.rows, c.rotated);
    kernels().rope_table(*device_, positions.data(), inv_freq.Row(0), 1.5f, got.view());
    reference().rope_table(*host_, positions.data(), inv_freq.Row(0), 1.5f, want.view());
    EXPECT_TRUE(got.SameBits(want));
  }
}

TEST_P(ElementwiseTest, RopeTurnsByARightAngle) {
  // cos 0, sin 1: (a, b) becomes (-b, a).
  const float quarter[4] = {0, 1, 0, 1};
  const ConstTensor table = MakeView(quarter, DType::kF32, 1, 4);
  float x[6] = {1, 2, 3, 4, 5, 6};  // a head of six of which four turn
  const Tensor view = MakeView(static_cast<void*>(x), DType::kF32, 1, 6);
  kernels().rope(*device_, view, 6, table, RopeStyle::kHalves);
  EXPECT_THAT(x, testing::ElementsAre(-3, -4, 1, 2, 5, 6));
  kernels().rope(*device_, view, 6, table, RopeStyle::kInterleaved);
  EXPECT_THAT(x, testing::ElementsAre(4, -3, -2, 1, 5, 6));
}

TEST_P(ElementwiseTest, Rope) {
  for (const RopeStyle style : {RopeStyle::kHalves, RopeStyle::kInterleaved}) {
    for (const auto& [rows, heads, head_dim, rotated] : kRopeCases) {
      const GuardedMatrix table = RandomMatrix(rows, rotated, 8);
      GuardedMatrix got = RandomMatrix(rows, heads * head_dim, 9, 4.0f);
      GuardedMatrix want = RandomMatrix(rows, heads * head_dim, 9, 4.0f);
      kernels().rope(*device_, got.view(), head_dim, table.view(), style);
      reference().rope(*host_, want.view(), head_dim, table.view(), style);
      ExpectNear(got, want, [](int64_t, int64_t) { return 8 * kEpsilon; });  // |a| + |b| <= 8
      const GuardedMatrix x = RandomMatrix(rows, heads * head_dim, 9, 4.0f);
      ExpectRowsIndependent(got, [&, dim = head_dim](int64_t r, Tensor out) {
        std::copy_n(x.Row(r), out.cols, out.Row<float>(0));
        kernels().rope(*device_, out, dim, RowView(table, r), style);
      });
    }
  }
}

}  // namespace
}  // namespace pregate
