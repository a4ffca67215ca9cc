// top_k_gate and combine_rows of every table, and activations of the neurons that an expert owns.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/table_test.h"

namespace pregate {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::Lt;
using Scoring = GateParams::Scoring;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

class RoutingTest : public TableTest {
 protected:
  Choice Gate(const Kernels& table, ConstTensor logits, const GateParams& params,
              ConstTensor shared_logits = {}) {
    const auto count = static_cast<size_t>(logits.rows * (params.k + (params.shared ? 1 : 0)));
    Choice choice{std::vector<int32_t>(count, -7), std::vector<float>(count, kNan)};
    table.top_k_gate(*device_, logits, shared_logits, params, choice.ids.data(),
                     choice.weights.data());
    return choice;
  }
  Choice GateRow(const std::vector<float>& logits, const GateParams& params) {
    const auto cols = static_cast<int64_t>(logits.size());
    return Gate(kernels(), MakeView(logits.data(), DType::kF32, 1, cols), params);
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, RoutingTest, testing::ValuesIn(TablesUnderTest()), TableName);

TEST_P(RoutingTest, GateAgreesWithTheReference) {
  const int64_t rows = GetParam().slow ? 6 : 300;
  for (const int64_t experts : {1, 2, 7, 8, 9, 16, 17, 60, 128, 131, 300}) {
    const GuardedMatrix logits = RandomMatrix(rows, experts, 1, 9.0f);
    for (const int32_t k : {1, 2, 4, 8, 17, 131}) {
      if (k > experts) continue;
      for (const Scoring scoring : {Scoring::kSoftmax, Scoring::kSigmoid}) {
        for (const bool renormalize : {false, true}) {
          const GateParams params{k, scoring, renormalize, 2.5f};
          const Choice got = Gate(kernels(), logits.view(), params);
          const Choice want = Gate(reference(), logits.view(), params);
          ASSERT_EQ(got.ids, want.ids) << experts << ", " << k;
          for (size_t i = 0; i < got.weights.size(); ++i) {
            // The exponents are up to 18 large: their rounding counts.
            ASSERT_NEAR(got.weights[i], want.weights[i], 60 * kEpsilon * want.weights[i] + 1e-37);
          }
        }
      }
    }
  }
}

TEST_P(RoutingTest, GateByHand) {
  const float log3 = std::log(3.0f);
  // Softmax of 0, log 3, 0, log 3: 1/8, 3/8, 1/8, 3/8; equal ones by ascending id.
  Choice choice = GateRow({0, log3, 0, log3}, {.k = 3});
  EXPECT_THAT(choice.ids, ElementsAre(1, 3, 0));
  EXPECT_NEAR(choice.weights[0], 0.375, 1e-6);
  EXPECT_NEAR(choice.weights[2], 0.125, 1e-6);
  choice = GateRow({0, log3, 0, log3}, {.k = 3, .renormalize = true, .scale = 7});
  EXPECT_NEAR(choice.weights[0], 3, 1e-5);
  EXPECT_NEAR(choice.weights[2], 1, 1e-5);
  // A shared expert's gate: one logit, its sigmoid.
  choice = GateRow({log3}, {.scoring = Scoring::kSigmoid});
  EXPECT_THAT(choice.ids, ElementsAre(0));
  EXPECT_NEAR(choice.weights[0], 0.75, 1e-6);
  // Every expert.
  EXPECT_THAT(GateRow({1, 1, 5, 1, 1}, {.k = 5}).ids, ElementsAre(2, 0, 1, 3, 4));
}

// A shared expert stands behind the others, which are as without it.
TEST_P(RoutingTest, SharedExpertOfEveryRow) {
  const GuardedMatrix logits = RandomMatrix(33, 60, 11, 5.0f), own = RandomMatrix(33, 1, 12, 9.0f);
  const GateParams params{4, Scoring::kSoftmax, true, 1.5f};
  GateParams with_shared = params;
  with_shared.shared = true;
  const Choice routed = Gate(kernels(), logits.view(), params);
  const Choice gated = Gate(kernels(), logits.view(), with_shared, own.view());
  const Choice whole = Gate(kernels(), logits.view(), with_shared);
  for (size_t r = 0; r < 33; ++r) {
    for (const Choice* choice : {&gated, &whole}) {
      EXPECT_TRUE(std::equal(&routed.ids[4 * r], &routed.ids[4 * r] + 4, &choice->ids[5 * r]));
      EXPECT_TRUE(
          std::equal(&routed.weights[4 * r], &routed.weights[4 * r] + 4, &choice->weights[5 * r]));
      EXPECT_EQ(choice->ids[5 * r + 4], 60);
    }
    const double want = 1 / (1 + std::exp(-double{*own.Row(static_cast<int64_t>(r))}));
    EXPECT_NEAR(gated.weights[5 * r + 4], want, 60 * kEpsilon * want);
    EXPECT_EQ(whole.weights[5 * r + 4], 1.0f);
  }
}

TEST_P(RoutingTest, GateOfStrangeLogits) {
  EXPECT_THAT(GateRow({kNan, -3, kNan, -kInfinity, 2}, {.k = 5}).ids, ElementsAre(4, 1, 0, 2, 3));
  EXPECT_THAT(GateRow({kNan, kNan, kNan}, {.k = 2}).ids, ElementsAre(0, 1));
  // Scores of nothing at all are weights of zero.
  const GateParams params{2, Scoring::kSigmoid, /*renormalize=*/true};
  EXPECT_THAT(GateRow({-kInfinity, -kInfinity}, params).weights, Each(Lt(1e-18f)));
}

TEST_P(RoutingTest, GateOfARowDependsOnThatRow) {
  const GuardedMatrix logits = RandomMatrix(40, 60, 2, 5.0f);
  const GateParams params{4, Scoring::kSoftmax, false};
  const Choice whole = Gate(kernels(), logits.view(), params);
  for (size_t r = 0; r < 40; ++r) {
    const auto row = static_cast<int64_t>(r);
    const Choice alone =
        Gate(kernels(), MakeView(logits.view().Row<char>(row), DType::kF32, 1, 60), params);
    ASSERT_EQ(std::memcmp(alone.weights.data(), &whole.weights[4 * r], 4 * sizeof(float)), 0);
    ASSERT_TRUE(std::equal(alone.ids.begin(), alone.ids.end(), &whole.ids[4 * r]));
  }
}

TEST_P(RoutingTest, CombinesRowsInOrder) {
  for (const auto& [rows, cols] : kMatrixCases) {
    for (const int32_t k : {1, 2, 5}) {
      const GuardedMatrix y = RandomMatrix(rows + 3, cols, 3, 2.0f);
      const GuardedMatrix weights = RandomMatrix(1, rows * k, 4);
      std::vector<int32_t> positions;
      for (int64_t i = 0; i < rows * k; ++i) {
        positions.push_back(i % 5 == 3 ? -1 : static_cast<int32_t>(i * 7 % (rows + 3)));
      }
      for (const float* w : {weights.Row(0), static_cast<const float*>(nullptr)}) {
        GuardedMatrix got(DType::kF32, rows, cols), want(DType::kF32, rows, cols);
        kernels().combine_rows(*device_, y.view(), positions.data(), w, k, got.view());
        reference().combine_rows(*host_, y.view(), positions.data(), w, k, want.view());
        EXPECT_TRUE(got.GuardsIntact());
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t i = 0; i < cols; ++i) {
            ASSERT_NEAR(got.Row(r)[i], want.Row(r)[i], 2 * k * k * kEpsilon) << r << ", " << i;
          }
          if (GetParam().slow && r % 16 > 1) continue;
          GuardedMatrix alone(DType::kF32, 1, cols);
          kernels().combine_rows(*device_, y.view(), positions.data() + r * k,
                                 w == nullptr ? w : w + r * k, k, alone.view());
          const auto bytes = static_cast<size_t>(cols) * sizeof(float);
          ASSERT_EQ(std::memcmp(alone.Row(0), got.Row(r), bytes), 0) << r;
        }
      }
    }
  }
}

TEST_P(RoutingTest, CombineLeavesOutMinusOne) {
  const float y[] = {1, 2, 3, 10, 20, 30};
  const float weights[] = {0.5f, kNan, 2, 1, 3, 4};
  const int32_t positions[] = {1, -1, 0, 0, -1, -1};
  float out[6];
  kernels().combine_rows(*device_, MakeView(y, DType::kF32, 2, 3), positions, weights, 3,
                         MakeView(static_cast<void*>(out), DType::kF32, 2, 3));
  EXPECT_THAT(out, ElementsAre(7, 14, 21, 1, 2, 3));
  const int32_t nobody[] = {-1, -1};
  kernels().combine_rows(*device_, MakeView(y, DType::kF32, 2, 3), nobody, nullptr, 1,
                         MakeView(static_cast<void*>(out), DType::kF32, 2, 3));
  EXPECT_THAT(out, ElementsAre(0, 0, 0, 0, 0, 0));
}

// What an expert does not own is exactly 0, whatever stands there; the rest is as without a mask.
TEST_P(RoutingTest, ActivationsOfOwnedColumns) {
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const int64_t cols : {1, 31, 32, 45, 64, 800, 2080}) {
      const std::vector<uint32_t> owned(static_cast<size_t>(cols / 32 + 1), 0xA5C3F00D);
      const auto owns = [](int64_t i) { return (0xA5C3F00D >> i % 32 & 1) != 0; };
      for (const bool with_up : {true, false}) {
        GuardedMatrix gate = RandomMatrix(3, cols, 5, 4.0f), up = RandomMatrix(3, cols, 6);
        const ConstTensor factor = with_up ? up.view() : ConstTensor();
        GuardedMatrix all(DType::kF32, 3, cols), got(DType::kF32, 3, cols);
        kernels().gated_activation(*device_, activation, {{gate.view(), factor, {}, all.view()}});
        for (int64_t i = 0; i < cols; ++i) {
          if (!owns(i)) gate.view().Row<float>(1)[i] = i % 2 == 0 ? kNan : -kInfinity;
        }
        kernels().gated_activation(*device_, activation,
                                   {{gate.view(), factor, owned, got.view()}});
        EXPECT_TRUE(got.GuardsIntact());
        for (int64_t r = 0; r < 3; ++r) {
          for (int64_t i = 0; i < cols; ++i) {
            const float want = owns(i) ? all.Row(r)[i] : 0.0f;
            ASSERT_EQ(std::memcmp(&want, &got.Row(r)[i], sizeof(float)), 0) << r << ", " << i;
          }
        }
      }
    }
  }
}

TEST_P(RoutingTest, ActivationAloneIsThatWithOnes) {
  const GuardedMatrix gate = RandomMatrix(5, 77, 7, 4.0f);
  GuardedMatrix ones(DType::kF32, 5, 77), got(DType::kF32, 5, 77), want(DType::kF32, 5, 77);
  for (int64_t r = 0; r < 5; ++r) std::fill_n(ones.view().Row<float>(r), 77, 1.0f);
  kernels().gated_activation(*device_, Activation::kSilu, {{gate.view(), {}, {}, got.view()}});
  kernels().gated_activation(*device_, Activation::kSilu,
                             {{gate.view(), ones.view(), {}, want.view()}});
  EXPECT_TRUE(got.SameBits(want));
}

// Groups of one call are those of a call each: rows of experts, of different widths, some empty.
TEST_P(RoutingTest, GroupsTogetherAreGroupsAlone) {
  std::vector<MatrixCase> shapes = {{1, 96}, {0, 64}, {9, 2112}, {40, 320}, {1, 32}, {0, 32}};
  for (int64_t i = 0; i < 150; ++i) shapes.push_back({i % 3, 32 + i % 5});
  const std::vector<uint32_t> owned(66, 0x0F0F3333);
  std::vector<GuardedMatrix> gates, together, alone;
  std::vector<GatedRows> groups;
  for (const auto& [rows, cols] : shapes) {
    gates.push_back(RandomMatrix(rows, cols, 8 + gates.size(), 4.0f));
    together.emplace_back(DType::kF32, rows, cols);
    alone.emplace_back(DType::kF32, rows, cols);
    groups.push_back({gates.back().view(), gates.back().view(), owned, together.back().view()});
    kernels().gated_activation(
        *device_, Activation::kGeluTanh,
        {{gates.back().view(), gates.back().view(), owned, alone.back().view()}});
  }
  kernels().gated_activation(*device_, Activation::kGeluTanh, groups);
  for (size_t i = 0; i < shapes.size(); ++i) EXPECT_TRUE(together[i].SameBits(alone[i])) << i;
}

TEST_P(RoutingTest, MatricesQuantisedTogetherAreThoseAlone) {
  const std::vector<MatrixCase> shapes = {{1, 96}, {0, 64}, {9, 2112}, {140, 320}, {1, 32}};
  for (const DType type : {DType::kQ16Act, DType::kQ8Act}) {
    std::vector<GuardedMatrix> x, together, alone;
    std::vector<Quantization> matrices;
    for (const auto& [rows, cols] : shapes) {
      x.push_back(RandomMatrix(rows, cols, 20 + x.size(), 4.0f));
      together.emplace_back(type, rows, cols, 0);
      alone.emplace_back(type, rows, cols, 0);
      matrices.push_back({x.back().view(), together.back().view()});
      kernels().quantize_rows(*device_, {{x.back().view(), alone.back().view()}});
    }
    kernels().quantize_rows(*device_, matrices);
    for (size_t i = 0; i < shapes.size(); ++i) EXPECT_TRUE(together[i].SameBits(alone[i])) << i;
  }
}

}  // namespace
}  // namespace pregate
