// draw_tokens, gather_logits and edit_logits of every table: against sorting and sums of integers,
// and by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
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

struct Drawn {
  int32_t id;
  float value;
  bool operator==(const Drawn&) const = default;
};
void PrintTo(const Drawn& drawn, std::ostream* out) { *out << drawn.id << " at " << drawn.value; }

// What the contract says: the run that a filter keeps is a piece of a sorted list.
Drawn Expected(const float* logits, int32_t vocab, const TokenDraw& draw) {
  std::vector<float> row(logits, logits + vocab);
  for (float& x : row) x = std::isnan(x) ? -kInfinity : std::min(x, kLargestFloat);
  const float largest = *std::max_element(row.begin(), row.end());
  if (largest == -kInfinity) return {0, -kInfinity};
  std::vector<size_t> kept(row.size());
  std::iota(kept.begin(), kept.end(), size_t{0});
  std::stable_sort(kept.begin(), kept.end(), [&](size_t a, size_t b) { return row[a] > row[b]; });
  if (draw.top_k > 0) kept.resize(std::min(kept.size(), static_cast<size_t>(draw.top_k)));
  std::sort(kept.begin(), kept.end());
  const auto weight = [&](size_t id) { return LogitWeight(row[id], largest, draw.scale); };
  const auto units = [&](size_t id) {
    return static_cast<uint64_t>(double{weight(id)} / kWeightUnit);
  };
  const auto sum = [&](const std::vector<size_t>& ids) {
    uint64_t total = 0;
    for (const size_t id : ids) total += units(id);
    return total;
  };
  if (draw.top_p < 1) {
    const double needed = double{draw.top_p} * static_cast<double>(sum(kept));
    std::stable_sort(kept.begin(), kept.end(),
                     [&](size_t a, size_t b) { return weight(a) > weight(b); });
    uint64_t before = 0;
    size_t count = 0;
    for (; static_cast<double>(before) < needed; ++count) before += units(kept[count]);
    kept.resize(count);
    std::sort(kept.begin(), kept.end());
  }
  std::erase_if(kept, [&](size_t id) { return weight(id) < draw.min_p || weight(id) == 0; });
  const double bound = draw.uniform * static_cast<double>(sum(kept));
  uint64_t upto = 0;
  for (const size_t id : kept) {
    upto += units(id);
    if (static_cast<double>(upto) > bound) return {static_cast<int32_t>(id), row[id]};
  }
  return {static_cast<int32_t>(kept.back()), row[kept.back()]};
}

class DrawTokensTest : public TableTest {
 protected:
  bool on_shim() const { return GetParam().name.starts_with("cuda_on_shim"); }

  std::vector<Drawn> Draw(const GuardedMatrix& logits, int32_t vocab,
                          const std::vector<TokenDraw>& draws) {
    const size_t floats = static_cast<size_t>(logits.view().rows * logits.view().stride) / 4;
    DeviceList<float> matrix(*device_, floats);
    matrix.Write({logits.Row(0), logits.Row(0) + floats});
    DeviceList<int32_t> ids(*device_, draws.size());
    DeviceList<float> values(*device_, draws.size());
    ConstTensor view = logits.view();
    view.data = matrix.data();
    kernels().draw_tokens(*device_, view, vocab, draws, ids.data(), values.data());
    std::vector<Drawn> drawn;
    const std::vector<int32_t> got_ids = ids.Read();
    const std::vector<float> got_values = values.Read();
    for (size_t i = 0; i < draws.size(); ++i) drawn.push_back({got_ids[i], got_values[i]});
    return drawn;
  }
  Drawn DrawOne(const std::vector<float>& row, const TokenDraw& draw) {
    GuardedMatrix logits(DType::kF32, 1, static_cast<int64_t>(row.size()));
    std::copy(row.begin(), row.end(), logits.view().Row<float>(0));
    return Draw(logits, static_cast<int32_t>(row.size()), {draw})[0];
  }
  void ExpectDrawn(const GuardedMatrix& logits, int32_t vocab,
                   const std::vector<TokenDraw>& draws) {
    const std::vector<Drawn> drawn = Draw(logits, vocab, draws);
    for (size_t i = 0; i < draws.size(); ++i) {
      const TokenDraw& d = draws[i];
      EXPECT_EQ(drawn[i], Expected(logits.Row(d.row), vocab, d))
          << "vocab " << vocab << " row " << d.row << " k " << d.top_k << " p " << d.top_p
          << " min " << d.min_p << " u " << d.uniform << " scale " << d.scale;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, DrawTokensTest, testing::ValuesIn(TablesUnderTest()), TableName);

// Three rows of a kind: of spread numbers, nearly flat, and with many ties; strange numbers between
// them, and behind the vocabulary what must not count.
GuardedMatrix Rows(int32_t vocab, bool peaked) {
  GuardedMatrix logits = RandomMatrix(3, vocab + 5, 11, 1.0f);
  for (int64_t r = 0; r < 3; ++r) {
    float* const row = logits.view().Row<float>(r);
    for (int32_t i = 0; i < vocab; ++i) {
      const float x = row[i];
      row[i] = peaked ? 40 * x * x * x : 6 * x;
      if (r == 1) row[i] = peaked ? 300 * x : 0.5f * x;
      if (r == 2) row[i] = std::round(row[i] * 2) / 2;
      if (i % 7 == 3) row[i] = i % 2 == 0 ? kNan : -kInfinity;
    }
    std::fill_n(row + vocab, 5, kInfinity);
  }
  return logits;
}

TEST_P(DrawTokensTest, AreWhatTheContractSays) {
  std::vector<int32_t> vocabs = {1, 2, 31, 63, 64, 65, 257, 1025, 8193, 32003};
  if (!on_shim()) vocabs.push_back(128256);
  for (const int32_t vocab : vocabs) {
    for (const bool peaked : {true, false}) {
      Numbers numbers(static_cast<uint64_t>(vocab));
      std::vector<TokenDraw> draws;
      const GuardedMatrix logits = Rows(vocab, peaked);
      for (const DrawCase& c : kDrawCases) {
        if (c.peaked != peaked && vocab > 10000) continue;
        const int count = vocab > 2000 ? 3 : on_shim() ? 5 : 12;
        for (int i = 0; i < count; ++i) {
          TokenDraw draw = c.draw;
          draw.row = i % 3;
          draw.scale = WeightScale(0.4f + 0.3f * static_cast<float>(i % 5));
          draw.uniform = 0.5 + 0.5 * double{numbers.Next()};
          if (i == 1) draw.uniform = 0.0;
          if (i == 4) draw.uniform = 1.0 - 0x1p-53;
          draws.push_back(draw);
        }
      }
      ExpectDrawn(logits, vocab, draws);
    }
  }
}

// 20000 tokens of one weight: what is kept is cut by ids, wherever the list of a few ends.
TEST_P(DrawTokensTest, TiesAreCutById) {
  const std::vector<float> row(20000, -3.5f);
  EXPECT_EQ(DrawOne(row, {.uniform = 0.75}), (Drawn{15000, -3.5f}));
  EXPECT_EQ(DrawOne(row, {.top_p = 0.5f, .uniform = 0.75}), (Drawn{7500, -3.5f}));
  EXPECT_EQ(DrawOne(row, {.top_p = 0.5f, .uniform = 1.0 - 0x1p-53}), (Drawn{9999, -3.5f}));
  EXPECT_EQ(DrawOne(row, {.top_k = 100, .uniform = 0.75}), (Drawn{75, -3.5f}));
  EXPECT_EQ(DrawOne(row, {.top_k = 100, .top_p = 0.5f, .uniform = 0.75}), (Drawn{37, -3.5f}));
  EXPECT_EQ(DrawOne(row, {.min_p = 1.0f, .uniform = 0.5}), (Drawn{10000, -3.5f}));
}

// Weights 1/2, 1, 1/4, 1/8 by hand: the sum of all is 15/8.
TEST_P(DrawTokensTest, SmallRowsByHand) {
  const float log2 = std::log(2.0f);
  const std::vector<float> row = {2 * log2, 3 * log2, log2, 0};
  const auto id = [&](const TokenDraw& draw) { return DrawOne(row, draw).id; };
  EXPECT_EQ(id({.scale = 1 / log2, .uniform = 0.266}), 0);
  EXPECT_EQ(id({.scale = 1 / log2, .uniform = 0.267}), 1);
  EXPECT_EQ(id({.scale = 1 / log2, .uniform = 0.799}), 1);
  EXPECT_EQ(id({.scale = 1 / log2, .uniform = 0.801}), 2);
  EXPECT_EQ(id({.scale = 1 / log2, .uniform = 0.932}), 2);
  EXPECT_EQ(id({.scale = 1 / log2, .uniform = 0.934}), 3);
  EXPECT_EQ(id({.scale = 1 / log2, .top_k = 2, .uniform = 0.999}), 1);
  EXPECT_EQ(id({.scale = 1 / log2, .top_p = 0.79f, .uniform = 0.999}), 1);
  EXPECT_EQ(id({.scale = 1 / log2, .top_p = 0.81f, .uniform = 0.999}), 2);
  EXPECT_EQ(id({.scale = 1 / log2, .top_p = 0.5f, .uniform = 0.0}), 1);
  EXPECT_EQ(id({.scale = 1 / log2, .min_p = 0.2f, .uniform = 0.999}), 2);
}

TEST_P(DrawTokensTest, StrangeRows) {
  for (const size_t vocab : {size_t{1}, size_t{3}, size_t{300}, size_t{9000}}) {
    std::vector<float> row(vocab, -kInfinity);
    for (size_t i = 0; i < vocab; i += 2) row[i] = kNan;
    for (const DrawCase& c : kDrawCases) {
      EXPECT_EQ(DrawOne(row, c.draw), (Drawn{0, -kInfinity})) << c.name;
    }
    row.back() = -1e30f;
    const auto last = static_cast<int32_t>(vocab - 1);
    for (const DrawCase& c : kDrawCases) {
      EXPECT_EQ(DrawOne(row, c.draw), (Drawn{last, -1e30f})) << c.name;
    }
    row.back() = kInfinity;
    row[vocab / 2] = kLargestFloat;
    TokenDraw draw = {.uniform = 0.75};  // one of two that count alike
    EXPECT_EQ(DrawOne(row, draw), (Drawn{last, kLargestFloat}));
  }
}

TEST_P(DrawTokensTest, NothingToDraw) { EXPECT_TRUE(Draw(RandomMatrix(1, 5, 1), 5, {}).empty()); }

// Each place once, in rows that are apart; what is not named stays, to the bit.
TEST_P(DrawTokensTest, EditedLogitsAndThoseThatAreRead) {
  constexpr int64_t kRows = 3, kVocab = 700;
  GuardedMatrix logits = RandomMatrix(kRows, kVocab, 5, 3.0f);
  logits.view().Row<float>(1)[8] = kNan;
  logits.view().Row<float>(1)[9] = -kInfinity;
  logits.view().Row<float>(2)[9] = kInfinity;
  const size_t floats = static_cast<size_t>(kRows * logits.view().stride) / 4;
  DeviceList<float> matrix(*device_, floats);
  std::vector<float> expected(logits.Row(0), logits.Row(0) + floats);
  matrix.Write(expected);
  Tensor view = logits.view();
  view.data = matrix.data();

  Numbers numbers(3);
  std::vector<LogitEdit> edits;
  std::vector<LogitPlace> places;
  std::vector<float> before;
  for (int32_t i = 0; i < 900; ++i) {
    const LogitPlace place = {i % 3, i / 3 * 2 + i % 2};
    LogitEdit edit = {.place = place};
    if (i % 5 < 3) edit.bias = i % 35 == 0 ? -kInfinity : 20 * numbers.Next();
    if (i % 7 < 3) edit.repetition = 1.1f + 0.9f * numbers.Next();
    if (i % 11 < 5) edit.penalty = numbers.Next();
    edits.push_back(edit);
    places.push_back(place);
    float& logit = expected[static_cast<size_t>(place.row * logits.view().stride / 4 + place.id)];
    before.push_back(logit);
    logit = EditedLogit(logit, edit);
  }
  const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i) {  // a NaN made of infinities has the sign that it has
      if (std::isnan(a[i]) ? !std::isnan(b[i]) : std::memcmp(&a[i], &b[i], 4) != 0) return false;
    }
    return true;
  };
  places.push_back(places[0]);  // reading twice is no matter
  before.push_back(before[0]);
  DeviceList<float> values(*device_, places.size());
  kernels().gather_logits(*device_, view, places, values.data());
  EXPECT_TRUE(same(values.Read(), before));
  kernels().edit_logits(*device_, view, edits);
  EXPECT_TRUE(same(matrix.Read(), expected));
  kernels().edit_logits(*device_, view, {});
  kernels().gather_logits(*device_, view, {}, values.data());
  EXPECT_TRUE(same(matrix.Read(), expected));
}

}  // namespace
}  // namespace pregate
