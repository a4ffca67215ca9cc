// layer_norm and self_attention of every table.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/table_test.h"

namespace pregate {
namespace {

using EncoderKernelsTest = TableTest;
INSTANTIATE_TEST_SUITE_P(Tables, EncoderKernelsTest, testing::ValuesIn(TablesUnderTest()),
                         TableName);

class SelfAttentionTest : public TableTest {
 protected:
  static bool Skips(const SelfAttentionCase& c) {
    return GetParam().slow && (c.name == "minilm_128" || c.name == "mixed");
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, SelfAttentionTest, testing::ValuesIn(TablesUnderTest()),
                         TableName);

Tensor RowView(const GuardedMatrix& matrix, int64_t r, int64_t rows = 1) {
  Tensor view = matrix.view();
  view.data = view.Row<char>(r);
  view.rows = rows;
  return view;
}

size_t RowSize(const GuardedMatrix& matrix) {
  return static_cast<size_t>(matrix.view().cols) * sizeof(float);
}

TEST_P(EncoderKernelsTest, LayerNormByHand) {
  // 1, 3, 5, 7 with what is added: mean 4, variance 5.
  float x[4] = {1, 2, 3, 4};
  const float residual[4] = {0, 1, 2, 3};
  const float weight[4] = {1, 1, 2, 1}, bias[4] = {0, 0, 0, 10};
  const Tensor view = MakeView(static_cast<void*>(x), DType::kF32, 1, 4);
  const auto row = [](const float* p) { return MakeView(p, DType::kF32, 1, 4); };
  kernels().layer_norm(*device_, view, row(residual), row(weight), row(bias), 0.0f, view);
  const float unit = 1 / std::sqrt(5.0f);
  EXPECT_FLOAT_EQ(x[0], -3 * unit);
  EXPECT_FLOAT_EQ(x[1], -unit);
  EXPECT_FLOAT_EQ(x[2], 2 * unit);
  EXPECT_FLOAT_EQ(x[3], 3 * unit + 10);
  float same[4] = {7, 7, 7, 7};  // no variance: epsilon keeps it finite
  const Tensor same_view = MakeView(static_cast<void*>(same), DType::kF32, 1, 4);
  kernels().layer_norm(*device_, same_view, {}, row(weight), row(bias), 1e-12f, same_view);
  EXPECT_EQ(same[0], 0.0f);
  EXPECT_EQ(same[3], 10.0f);
}

TEST_P(EncoderKernelsTest, LayerNorm) {
  std::vector<MatrixCase> cases = kMatrixCases;
  cases.push_back({3, 9003});  // more than a block of a GPU keeps in registers
  for (const auto& [rows, cols] : cases) {
    for (const bool added : {false, true}) {
      const GuardedMatrix x = RandomMatrix(rows, cols, 1, 3.0f), y = RandomMatrix(rows, cols, 2);
      const GuardedMatrix weight = RandomMatrix(1, cols, 3), bias = RandomMatrix(1, cols, 4);
      GuardedMatrix got(DType::kF32, rows, cols), want(DType::kF32, rows, cols);
      const auto run = [&](const Kernels& table, Tensor in, Tensor residual, Tensor out) {
        table.layer_norm(*device_, in, added ? ConstTensor(residual) : ConstTensor(), weight.view(),
                         bias.view(), 1e-3f, out);
      };
      run(kernels(), x.view(), y.view(), got.view());
      run(reference(), x.view(), y.view(), want.view());
      EXPECT_TRUE(got.GuardsIntact());
      // Elements are below 4 and, unless the row is one element, their deviation is near 1.8; of a
      // few elements it may be as small as epsilon's root.
      const double spread = cols < 4 ? std::sqrt(1e-3) : 0.3;
      const double tolerance = (16 + static_cast<double>(cols) / 16) * kEpsilon * 4 / spread;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < cols; ++i) {
          ASSERT_NEAR(got.Row(r)[i], want.Row(r)[i], tolerance)
              << rows << " x " << cols << ", row " << r << ", column " << i;
        }
      }
      GuardedMatrix alone(DType::kF32, 1, cols);
      for (int64_t r = 0; r < rows; r += 1 + r / 4) {
        run(kernels(), RowView(x, r), RowView(y, r), alone.view());
        ASSERT_EQ(std::memcmp(alone.Row(0), got.Row(r), RowSize(got)), 0) << "row " << r;
      }
      GuardedMatrix in_place = RandomMatrix(rows, cols, 1, 3.0f);
      run(kernels(), in_place.view(), y.view(), in_place.view());
      EXPECT_TRUE(in_place.SameBits(got));
    }
  }
}

struct Rows {
  explicit Rows(const SelfAttentionCase& c) {
    for (const int32_t rows : c.rows) start.push_back(start.back() + rows);
    const int64_t cols = int64_t{c.heads} * c.head_dim;
    for (uint64_t i = 1; i <= 3; ++i) q_k_v.push_back(RandomMatrix(start.back(), cols, i, 2.0f));
  }
  std::vector<int32_t> start = {0};
  std::vector<GuardedMatrix> q_k_v;
};

GuardedMatrix Attend(const Kernels& kernels, Device& device, const SelfAttentionCase& c,
                     const Rows& rows) {
  GuardedMatrix out(DType::kF32, rows.start.back(), int64_t{c.heads} * c.head_dim);
  kernels.self_attention(device, {rows.q_k_v[0].view(), rows.q_k_v[1].view(), rows.q_k_v[2].view(),
                                  rows.start, c.heads, 0.25f, out.view()});
  EXPECT_TRUE(out.GuardsIntact()) << c.name;
  return out;
}

TEST_P(SelfAttentionTest, TwoRowsByHand) {
  // Each row sees both: scores 0 and ln 3 weigh 1/4 and 3/4, values 4 and 8 mix to 7.
  const float q[2] = {1, 0}, k[2] = {0, std::log(3.0f)}, v[2] = {4, 8};
  float out[2];
  const auto column = [](const float* p) { return MakeView(p, DType::kF32, 2, 1); };
  const std::vector<int32_t> start = {0, 2};
  kernels().self_attention(*device_, {column(q), column(k), column(v), start, 1, 1.0f,
                                      MakeView(static_cast<void*>(out), DType::kF32, 2, 1)});
  EXPECT_NEAR(out[0], 7, 1e-5);
  EXPECT_NEAR(out[1], 6, 1e-5);  // scores are equal
}

TEST_P(SelfAttentionTest, MatchesTheReference) {
  for (const SelfAttentionCase& c : kSelfAttentionCases) {
    if (Skips(c)) continue;
    const Rows rows(c);
    const GuardedMatrix got = Attend(kernels(), *device_, c, rows);
    const GuardedMatrix want = Attend(reference(), *host_, c, rows);
    // As in attention_test: elements are below 2.
    const double score_error = kEpsilon * (4 * std::sqrt(static_cast<double>(c.head_dim)) + 8);
    const double tolerance = 2 * (2 * score_error + 32 * kEpsilon);
    for (int64_t r = 0; r < want.view().rows; ++r) {
      for (int64_t i = 0; i < want.view().cols; ++i) {
        ASSERT_NEAR(got.Row(r)[i], want.Row(r)[i], tolerance)
            << c.name << ": row " << r << ", column " << i;
      }
    }
  }
}

TEST_P(SelfAttentionTest, SequencesDoNotDependOnTheirBatchOrThreads) {
  for (const SelfAttentionCase& c : kSelfAttentionCases) {
    if (&kernels() == &reference() && c.name != "register_tiles") continue;  // slow
    if (Skips(c) || c.name == "two_spans") continue;
    const Rows rows(c);
    const GuardedMatrix whole = Attend(kernels(), *device_, c, rows);
    const std::unique_ptr<Device> device = MakeDevice(1);
    for (size_t s = 0; s < c.rows.size(); ++s) {
      GuardedMatrix alone(DType::kF32, c.rows[s], whole.view().cols);
      const std::vector<int32_t> start = {0, c.rows[s]};
      const auto part = [&](size_t i) { return RowView(rows.q_k_v[i], rows.start[s], c.rows[s]); };
      kernels().self_attention(*device,
                               {part(0), part(1), part(2), start, c.heads, 0.25f, alone.view()});
      for (int64_t r = 0; r < c.rows[s]; ++r) {
        ASSERT_EQ(std::memcmp(alone.Row(r), whole.Row(rows.start[s] + r), RowSize(whole)), 0)
            << c.name << ": sequence " << s << ", row " << r;
      }
    }
  }
}

}  // namespace
}  // namespace pregate
