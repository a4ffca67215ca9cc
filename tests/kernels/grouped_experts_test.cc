// sort_by_expert and grouped_matmul, of tables for devices whose memory the host cannot read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/weight_test.h"

namespace pregate {
namespace {

// The experts of each row, all different: [rows, k] below `experts`, of which every fifth is never
// chosen where there are more than enough.
std::vector<int32_t> ChooseExperts(int64_t rows, int32_t k, int32_t experts, uint64_t seed) {
  std::vector<int32_t> candidates;
  for (int32_t e = 0; e < experts; ++e) {
    if (e % 5 != 3 || experts < 2 * k) candidates.push_back(e);
  }
  Numbers numbers(seed);
  std::vector<int32_t> ids;
  for (int64_t r = 0; r < rows; ++r) {
    for (size_t i = candidates.size() - 1; i > 0; --i) {
      const float place = (numbers.Next() + 1) / 2 * static_cast<float>(i + 1);
      std::swap(candidates[i], candidates[std::min(i, static_cast<size_t>(place))]);
    }
    ids.insert(ids.end(), candidates.begin(), candidates.begin() + k);
  }
  return ids;
}

struct Order {
  Order(int64_t rows, int32_t k, int32_t experts)
      : start(static_cast<size_t>(experts) + 1, -1),
        rows(static_cast<size_t>(rows * k), -1),
        positions(static_cast<size_t>(rows * k), -1) {}
  std::vector<int32_t> start, rows, positions;
};

class ExpertOrderTest : public TableTest {};
INSTANTIATE_TEST_SUITE_P(Tables, ExpertOrderTest, testing::ValuesIn(TablesUnderTest()), TableName);

// Here, as these are the tables that have every entry.
TEST_P(ExpertOrderTest, TheTableIsComplete) {
  const Kernels& k = kernels();
  EXPECT_TRUE(k.rms_norm && k.layer_norm && k.packed_bytes && k.pack && k.embed &&
              k.quantize_rows && k.matmul && k.rope_table && k.rope && k.kv_append && k.attention &&
              k.self_attention && k.gated_activation && k.add && k.gather_rows && k.top_k_gate &&
              k.combine_rows && k.likeliest && k.gather_logits && k.edit_logits && k.draw_tokens &&
              k.sort_by_expert && k.grouped_matmul);
}

TEST_P(ExpertOrderTest, RowsStandByExpertInTheirOrder) {
  struct Case {
    int64_t rows;
    int32_t k, experts;
  };
  for (const auto& [rows, k, experts] :
       std::vector<Case>{{1, 1, 1}, {1, 4, 60}, {3, 2, 7}, {128, 2, 3}, {257, 8, 33}}) {
    const std::vector<int32_t> ids = ChooseExperts(rows, k, experts, 1);
    Order want(rows, k, experts), got(rows, k, experts);
    want.start[0] = 0;
    int32_t next = 0;
    for (int32_t e = 0; e < experts; ++e) {
      for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] != e) continue;
        want.rows[static_cast<size_t>(next)] = static_cast<int32_t>(i) / k;
        want.positions[i] = next++;
      }
      want.start[static_cast<size_t>(e) + 1] = next;
    }
    kernels().sort_by_expert(*device_, ids.data(), rows, k, experts,
                             {got.start.data(), got.rows.data(), got.positions.data()});
    EXPECT_EQ(got.start, want.start) << rows << " rows";
    EXPECT_EQ(got.rows, want.rows) << rows << " rows";
    EXPECT_EQ(got.positions, want.positions) << rows << " rows";
  }
}

// Some of the experts are elsewhere: their rows have no place, the others the same as ever.
TEST_P(ExpertOrderTest, RowsOfExpertsElsewhereHaveNoPlace) {
  constexpr int64_t kRows = 130;
  constexpr int32_t kChosen = 3, kExperts = 9;
  const std::vector<int32_t> ids = ChooseExperts(kRows, kChosen, kExperts, 2);
  Order all(kRows, kChosen, kExperts);
  kernels().sort_by_expert(*device_, ids.data(), kRows, kChosen, kExperts,
                           {all.start.data(), all.rows.data(), all.positions.data()});
  struct Case {
    int32_t first, end, shared;
  };
  for (const auto& [first, end, shared] :
       std::vector<Case>{{0, 9, -1}, {0, 4, -1}, {4, 8, 8}, {3, 5, 8}, {8, 8, 8}}) {
    Order some(kRows, kChosen, kExperts);
    kernels().sort_by_expert(*device_, ids.data(), kRows, kChosen, kExperts,
                             {.start = some.start.data(),
                              .rows = some.rows.data(),
                              .positions = some.positions.data(),
                              .first = first,
                              .end = end,
                              .shared = shared});
    EXPECT_EQ(some.start, all.start);
    EXPECT_EQ(some.rows, all.rows);
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool here = (ids[i] >= first && ids[i] < end) || ids[i] == shared;
      EXPECT_EQ(some.positions[i], here ? all.positions[i] : -1) << i << ": expert " << ids[i];
    }
  }
}

class GroupedProductTest : public WeightTest {};
INSTANTIATE_TEST_SUITE_P(Tables, GroupedProductTest, TablesAndTypes(), TableAndTypeName);

TEST_P(GroupedProductTest, EachExpertIsAProductOfItsRows) {
  constexpr int64_t kDepth = 256, kOutputs = 48;
  for (const std::vector<int32_t>& start :
       {std::vector<int32_t>{0, 1, 1, 3, 3}, {0, 0, 17, 18, 90}}) {
    const size_t experts = start.size() - 1;
    std::vector<PackedMatrix> gates, ups;
    std::vector<PackedWeight> gate_views, up_views;
    for (size_t e = 0; e < experts; ++e) {
      gates.push_back(Pack(MakeWeights(dtype(), kOutputs, kDepth, 1 + e)));
      ups.push_back(Pack(MakeWeights(dtype(), kOutputs, kDepth, 11 + e)));
      gate_views.push_back(gates.back().view());
      up_views.push_back(ups.back().view());
    }
    const int64_t rows = start.back();
    const GuardedMatrix x = RandomMatrix(rows, kDepth, 21);
    for (const DType type : ActivationTypes()) {
      const GuardedMatrix operand = Activations(type, x.view());
      GuardedMatrix gate(DType::kF32, rows, kOutputs), up(DType::kF32, rows, kOutputs);
      kernels().grouped_matmul(*device_,
                               {{operand.view(), gate_views, start.data(), rows, gate.view()},
                                {operand.view(), up_views, start.data(), rows, up.view()}});
      EXPECT_TRUE(gate.GuardsIntact() && up.GuardsIntact());
      for (size_t e = 0; e < experts; ++e) {
        const int64_t count = start[e + 1] - start[e];
        if (count == 0) continue;
        const GuardedMatrix own = Activations(type, SomeRows(x, start[e], count));
        GuardedMatrix alone(DType::kF32, count, kOutputs);
        for (const auto& [weight, together] : {std::pair{&gates[e], &gate}, {&ups[e], &up}}) {
          kernels().matmul(*device_,
                           {{.x = own.view(), .weight = weight->view(), .out = alone.view()}});
          for (int64_t r = 0; r < count; ++r) {
            ASSERT_EQ(
                std::memcmp(alone.Row(r), together->Row(start[e] + r), kOutputs * sizeof(float)), 0)
                << "expert " << e << ", row " << r;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pregate
