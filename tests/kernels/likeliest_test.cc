// likeliest of every table, against plain sorting: and what every token weighs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/logit_math.h"
#include "tests/kernels/device_list.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/table_test.h"

namespace pregate {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Answer {
  std::vector<int32_t> ids;    // [L, k]
  std::vector<float> values;   // [L, k]
  std::vector<double> totals;  // [L]
};

// What the contract says, by sorting.
Answer Expected(ConstTensor logits, int32_t vocab, int32_t k) {
  Answer answer;
  for (int64_t r = 0; r < logits.rows; ++r) {
    std::vector<float> row(logits.Row<float>(r), logits.Row<float>(r) + vocab);
    for (float& x : row) x = std::isnan(x) ? -kInfinity : std::min(x, kLargestFloat);
    std::vector<size_t> order(row.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return row[a] > row[b]; });
    for (size_t j = 0; j < static_cast<size_t>(k); ++j) {
      answer.ids.push_back(j < row.size() ? static_cast<int32_t>(order[j]) : -1);
      answer.values.push_back(j < row.size() ? row[order[j]] : -kInfinity);
    }
    double total = 0;
    const float largest = row[order[0]];
    for (const float x : row) {
      if (largest > -kInfinity) total += LogitWeight(x, largest, WeightScale(1.0f));
    }
    answer.totals.push_back(total);
  }
  return answer;
}

class LikeliestTest : public TableTest {
 protected:
  // `shift` floats before the first row decide how rows are aligned.
  Answer Run(ConstTensor logits, int32_t vocab, int32_t k, bool want_totals = true,
             size_t shift = 0) {
    const auto rows = static_cast<size_t>(logits.rows);
    DeviceList<float> matrix(*device_, shift + rows * static_cast<size_t>(logits.stride) / 4);
    std::vector<float> host(shift + rows * static_cast<size_t>(logits.stride) / 4, kNan);
    std::copy_n(static_cast<const float*>(logits.data), host.size() - shift, host.data() + shift);
    matrix.Write(host);
    DeviceList<float> values(*device_, rows * static_cast<size_t>(k));
    DeviceList<double> totals(*device_, rows);
    DeviceList<int32_t> ids(*device_, rows * static_cast<size_t>(k));
    ConstTensor view = logits;
    view.data = matrix.data() + shift;
    kernels().likeliest(*device_, view, vocab, k, ids.data(), values.data(),
                        want_totals ? totals.data() : nullptr);
    Answer answer = {ids.Read(), values.Read(), {}};
    if (want_totals) answer.totals = totals.Read();
    return answer;
  }
  Answer RunRow(const std::vector<float>& row, int32_t k) {
    const auto vocab = static_cast<int32_t>(row.size());
    return Run(MakeView(row.data(), DType::kF32, 1, vocab), vocab, k);
  }
  bool on_shim() const { return GetParam().name.starts_with("cuda_on_shim"); }

  void ExpectAnswer(const Answer& got, const Answer& want) {
    EXPECT_EQ(got.ids, want.ids);
    EXPECT_EQ(got.values, want.values);
    EXPECT_EQ(got.totals, want.totals);  // to the bit, in whatever order they were summed
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, LikeliestTest, testing::ValuesIn(TablesUnderTest()), TableName);

TEST_P(LikeliestTest, IsWhatSortingGives) {
  for (const LikeliestCase& c : kLikeliestCases) {
    for (const bool tied : {false, true}) {
      if (on_shim() && tied && c.vocab > 100000) continue;
      const int64_t rows = on_shim() ? c.rows / 4 + 1 : c.rows;
      // Columns behind the vocabulary must not count.
      GuardedMatrix logits = RandomMatrix(rows, c.vocab + 5, 7, 12.0f);
      for (int64_t r = 0; r < rows; ++r) {
        float* const row = logits.view().Row<float>(r);
        for (int32_t i = 0; i < c.vocab && tied; ++i) row[i] = std::round(row[i] / 4);
        std::fill_n(row + c.vocab, 5, kInfinity);
      }
      for (const int32_t k : c.k) {
        SCOPED_TRACE(std::to_string(c.vocab) + ", " + std::to_string(k));
        ExpectAnswer(Run(logits.view(), c.vocab, k), Expected(logits.view(), c.vocab, k));
      }
    }
  }
}

// Rows that begin at every multiple of four bytes, and at multiples of sixteen alone.
TEST_P(LikeliestTest, RowsMayBeginAnywhere) {
  for (const int32_t vocab : {8192, 8203}) {
    for (const int64_t padding : {int64_t{4}, 16 + (4 - vocab % 4) % 4 * int64_t{4}}) {
      const GuardedMatrix noise = RandomMatrix(3, vocab, 5, 9.0f);
      GuardedMatrix logits(DType::kF32, 3, vocab, padding);
      for (int64_t r = 0; r < 3; ++r) {
        std::copy_n(noise.Row(r), vocab, logits.view().Row<float>(r));
      }
      const Answer want = Expected(logits.view(), vocab, 40);
      for (const size_t shift : {0, 1, 2, 3}) {
        ExpectAnswer(Run(logits.view(), vocab, 40, true, shift), want);
      }
    }
  }
}

TEST_P(LikeliestTest, StrangeNumbersCountAsTheContractSays) {
  const float log3 = std::log(3.0f);
  Answer answer = RunRow({kNan, 0, log3, -kInfinity, log3, kNan}, 6);
  EXPECT_EQ(answer.ids, (std::vector<int32_t>{2, 4, 1, 0, 3, 5}));
  EXPECT_EQ(answer.values, (std::vector<float>{log3, log3, 0, -kInfinity, -kInfinity, -kInfinity}));
  EXPECT_NEAR(answer.totals[0], 1 + 1 + 1 / 3.0, 1e-6);
  // More than there are.
  answer = RunRow({2, 5}, 4);
  EXPECT_EQ(answer.ids, (std::vector<int32_t>{1, 0, -1, -1}));
  EXPECT_EQ(answer.values, (std::vector<float>{5, 2, -kInfinity, -kInfinity}));
  // An infinity is no larger than the largest number.
  answer = RunRow({0, kLargestFloat, -kLargestFloat, kInfinity, kInfinity}, 4);
  EXPECT_EQ(answer.ids, (std::vector<int32_t>{1, 3, 4, 0}));
  EXPECT_EQ(answer.values, (std::vector<float>{kLargestFloat, kLargestFloat, kLargestFloat, 0}));
  EXPECT_EQ(answer.totals[0], 3.0f);
  // Zeros of both signs are equal.
  EXPECT_EQ(RunRow({-1, -0.0f, 0.0f, -0.0f, -2}, 4).ids, (std::vector<int32_t>{1, 2, 3, 0}));
  // The smallest numbers of both signs are not zero.
  constexpr float kTiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(RunRow({-kTiny, 0.0f, kTiny}, 3).ids, (std::vector<int32_t>{2, 1, 0}));
}

TEST_P(LikeliestTest, RowsWithoutANumber) {
  for (const int32_t vocab : {3, 300, 9000}) {
    for (const int32_t k : {1, 2, 256}) {
      std::vector<float> row(static_cast<size_t>(vocab), -kInfinity);
      for (size_t i = 0; i < row.size(); i += 3) row[i] = kNan;
      const Answer answer = RunRow(row, k);
      EXPECT_EQ(answer.totals[0], 0.0f);
      for (int32_t j = 0; j < k; ++j) {
        EXPECT_EQ(answer.ids[static_cast<size_t>(j)], j < vocab ? j : -1);
        EXPECT_EQ(answer.values[static_cast<size_t>(j)], -kInfinity);
      }
    }
  }
}

// Segments without a number beside one that has some; nothing but ties; ties that a segment's end
// cuts; rows in order.
TEST_P(LikeliestTest, HardRows) {
  constexpr int32_t kVocab = 20000;
  const std::vector<std::function<float(int32_t)>> rows = {
      [](int32_t i) { return i >= 9000 && i < 9010 ? static_cast<float>(i) : kNan; },
      [](int32_t) { return 1.5f; },
      [](int32_t i) { return i > 8150 && i < 8300 ? 3.0f : static_cast<float>(i % 7) / 7; },
      [](int32_t i) { return static_cast<float>(i); },
      [](int32_t i) { return -static_cast<float>(i); },
      [](int32_t i) { return i == 19999 ? 1.0f : 1.0f - 0x1p-24f * static_cast<float>(i % 2); },
      [](int32_t i) { return i % 2 == 0 ? -kInfinity : static_cast<float>(i % 100) * 1e30f; },
  };
  for (const auto& logit : rows) {
    std::vector<float> row;
    for (int32_t i = 0; i < kVocab; ++i) row.push_back(logit(i));
    const ConstTensor view = MakeView(row.data(), DType::kF32, 1, kVocab);
    for (const int32_t k : {1, 64, 256}) {
      ExpectAnswer(RunRow(row, k), Expected(view, kVocab, k));
    }
  }
}

TEST_P(LikeliestTest, WithoutTotals) {
  const GuardedMatrix logits = RandomMatrix(3, 700, 5, 9.0f);
  for (const int32_t k : {1, 64}) {
    const Answer with = Run(logits.view(), 700, k);
    const Answer without = Run(logits.view(), 700, k, /*want_totals=*/false);
    EXPECT_EQ(with.ids, without.ids);
    EXPECT_EQ(with.values, without.values);
  }
}

// More rows than a table may take at a time, alone and again: the same bits.
TEST_P(LikeliestTest, ARowDependsOnItselfAlone) {
  const int64_t rows = on_shim() ? 70 : 4400;
  constexpr int32_t kVocab = 300, kCount = 256;
  const GuardedMatrix logits = RandomMatrix(rows, kVocab, 3, 15.0f);
  const Answer whole = Run(logits.view(), kVocab, kCount);
  ExpectAnswer(whole, Expected(logits.view(), kVocab, kCount));
  for (int64_t r = 0; r < rows; r += 1 + r / 2) {
    ConstTensor row = logits.view();
    row.data = logits.view().Row<char>(r);
    row.rows = 1;
    const auto place = static_cast<size_t>(r);
    const Answer alone = Run(row, kVocab, kCount);
    ASSERT_TRUE(std::equal(alone.ids.begin(), alone.ids.end(), &whole.ids[kCount * place]));
    ASSERT_EQ(
        std::memcmp(alone.values.data(), &whole.values[kCount * place], kCount * sizeof(float)), 0);
    ASSERT_EQ(alone.totals[0], whole.totals[place]) << r;
  }
}

TEST(LogitWeight, IsAnExponentialInUnits) {
  const float scale = WeightScale(1.0f);
  EXPECT_EQ(LogitWeight(3.5f, 3.5f, WeightScale(0.7f)), 1.0f);
  EXPECT_EQ(LogitWeight(kInfinity, kLargestFloat, scale), 1.0f);
  EXPECT_EQ(LogitWeight(-kInfinity, 3.5f, scale), 0.0f);
  EXPECT_EQ(LogitWeight(kNan, 3.5f, scale), 0.0f);
  EXPECT_EQ(LogitWeight(-100.0f, 0.0f, scale), 0.0f);
  for (float x = 0; x > -40; x -= 0.0371f) {
    const double exact = std::exp(double{x}), weight = LogitWeight(x, 0.0f, scale);
    EXPECT_NEAR(weight, exact, exact * (3e-7 - 1e-7 * double{x}) + kWeightUnit / 2) << x;
    EXPECT_EQ(weight / kWeightUnit, std::floor(weight / kWeightUnit)) << x;
  }
}

TEST_P(LikeliestTest, NoRows) {
  const Answer answer = Run(ConstTensor{nullptr, DType::kF32, 0, 10, 40}, 10, 5);
  EXPECT_TRUE(answer.ids.empty());
}

}  // namespace
}  // namespace pregate
