// The arithmetic of choosing a token, against plain implementations that sort everything.
#include "engine/model/token_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "engine/model/philox.h"
#include "engine/model/row_sweeps.h"
#include "kernels/logit_math.h"

namespace pregate {
namespace {

// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformNumbersAreInRangeAndSpread) {
  double sum = 0;
  for (uint64_t i = 0; i < 10000; ++i) {
    const double u = UniformAt(1, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.012);  // four standard deviations
  EXPECT_NE(UniformAt(1, 0), UniformAt(2, 0));
  EXPECT_NE(UniformAt(1, 0), UniformAt(uint64_t{1} << 32 | 1, 0));
}

std::vector<float> RandomLogits(int vocab, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(static_cast<size_t>(vocab));
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// The distribution that is left after every filter, by sorting everything: [vocab].
std::vector<double> NaiveDistribution(const std::vector<float>& logits,
                                      const SamplingParams& params) {
  std::vector<double> p(logits.size());
  const double largest = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < p.size(); ++i) p[i] = std::exp((logits[i] - largest) / params.temperature);
  const auto normalise = [&] {
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
  };
  // Keeps the first tokens, by ascending key, until `keep` says that those before are enough.
  const auto keep_first = [&](const std::vector<double>& key, auto enough) {
    std::vector<size_t> order(p.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return key[a] < key[b]; });
    double mass = 0;
    for (size_t n = 0; n < order.size(); ++n) {
      const double own = p[order[n]];
      if (n > 0 && enough(n, mass)) p[order[n]] = 0;
      mass += own;
    }
    normalise();
  };
  const auto by_probability = [&] {
    std::vector<double> key;
    for (const double x : p) key.push_back(-x);
    return key;
  };
  normalise();
  if (params.top_k > 0) {
    keep_first(by_probability(), [&](size_t n, double) { return n >= size_t(params.top_k); });
  }
  if (params.typical_p < 1) {
    double entropy = 0;
    for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
    std::vector<double> key;
    for (const double x : p) key.push_back(x > 0 ? std::fabs(-std::log(x) - entropy) : 1e300);
    keep_first(key, [&](size_t, double mass) { return mass >= double{params.typical_p}; });
  }
  if (params.top_p < 1) {
    keep_first(by_probability(), [&](size_t, double mass) { return mass >= double{params.top_p}; });
  }
  if (params.min_p > 0) {
    const double bound = params.min_p * *std::max_element(p.begin(), p.end());
    for (double& x : p) x = x < bound ? 0 : x;
    normalise();
  }
  return p;
}

struct FilterCase {
  const char* name;
  int vocab;
  float spread;
  SamplingParams params;
};
void PrintTo(const FilterCase& c, std::ostream* out) { *out << c.name; }

const FilterCase kFilterCases[] = {
    {"plain", 50, 2, {}},
    {"cold", 50, 2, {.temperature = 0.2f}},
    {"hot", 50, 2, {.temperature = 2.0f}},
    {"top_k", 1000, 3, {.top_k = 17}},
    {"top_k_all", 30, 3, {.top_k = 30}},
    {"top_p", 1000, 3, {.top_p = 0.7f}},
    {"top_p_flat", 3000, 0.1f, {.top_p = 0.6f}},
    {"top_p_peaked", 1000, 12, {.top_p = 0.95f}},
    {"min_p", 1000, 3, {.min_p = 0.05f}},
    {"typical", 1000, 3, {.typical_p = 0.4f}},
    {"typical_flat", 3000, 0.1f, {.typical_p = 0.5f}},
    {"everything",
     1000,
     3,
     {.temperature = 0.8f, .top_k = 100, .top_p = 0.9f, .min_p = 0.02f, .typical_p = 0.9f}},
    {"top_p_min_p", 1000, 2, {.top_p = 0.8f, .min_p = 0.1f}},
};

class DrawTest : public ::testing::TestWithParam<FilterCase> {};

// Sweeping the uniform number evenly visits every surviving token in proportion to its probability:
// the counts must be the distribution, to one part in the number of draws, not just near it.
TEST_P(DrawTest, SweepGivesTheNaiveDistribution) {
  const FilterCase& c = GetParam();
  const std::vector<float> logits = RandomLogits(c.vocab, c.spread, 5);
  const std::vector<double> expected = NaiveDistribution(logits, c.params);
  constexpr int kDraws = 5000;
  std::vector<double> counts(logits.size());
  std::vector<float> row;
  for (int i = 0; i < kDraws; ++i) {
    row = logits;
    const int32_t id = DrawToken(absl::MakeSpan(row), c.params, (i + 0.5) / kDraws);
    counts[static_cast<size_t>(id)] += 1.0 / kDraws;
  }
  for (size_t id = 0; id < expected.size(); ++id) {
    EXPECT_NEAR(counts[id], expected[id], 1.1 / kDraws + 1e-5 * expected[id]) << id;
    if (expected[id] == 0) {
      EXPECT_EQ(counts[id], 0) << id << " is filtered";
    }
  }
}

// Pearson's test over draws by our own random numbers, against the 99.9 % quantile. The seed is
// fixed: this either holds or does not.
TEST_P(DrawTest, ChiSquare) {
  const FilterCase& c = GetParam();
  const std::vector<float> logits = RandomLogits(c.vocab, c.spread, 6);
  const std::vector<double> expected = NaiveDistribution(logits, c.params);
  constexpr int kDraws = 4000;
  std::vector<int> counts(logits.size());
  std::vector<float> row;
  for (int i = 0; i < kDraws; ++i) {
    row = logits;
    ++counts[static_cast<size_t>(
        DrawToken(absl::MakeSpan(row), c.params, UniformAt(7, static_cast<uint64_t>(i))))];
  }
  // Tokens expected fewer than five times share one bin.
  double statistic = 0, rare_expected = 0, rare_count = 0;
  int bins = 0;
  const auto add_bin = [&](double count, double mean) {
    statistic += (count - mean) * (count - mean) / mean;
    ++bins;
  };
  for (size_t id = 0; id < expected.size(); ++id) {
    const double mean = expected[id] * kDraws;
    if (mean >= 5) {
      add_bin(counts[id], mean);
    } else {
      rare_expected += mean;
      rare_count += counts[id];
    }
  }
  if (rare_expected >= 5) add_bin(rare_count, rare_expected);
  const double freedom = std::max(bins - 1, 1);
  // Wilson and Hilferty's approximation of the chi-square quantile; 3.09 is the normal one.
  const double cube = 1 - 2 / (9 * freedom) + 3.09 * std::sqrt(2 / (9 * freedom));
  EXPECT_LE(statistic, freedom * cube * cube * cube) << bins << " bins";
}

INSTANTIATE_TEST_SUITE_P(All, DrawTest, ::testing::ValuesIn(kFilterCases),
                         [](const auto& info) { return info.param.name; });

// What a plain loop says, with rows that end in the middle of a block.
TEST(ArgMax, FindsTheFirstOfTheLargestAmongBrokenNumbers) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  for (const int vocab : {1, 7, 127, 128, 129, 1000, 1024}) {
    std::vector<float> logits = RandomLogits(vocab, 1, 9);
    for (float& logit : logits) logit = std::round(logit * 4) / 4;  // many ties
    for (size_t i = 0; i < logits.size(); i += 5) logits[i] = i % 2 == 0 ? kNaN : -kInfinity;
    std::vector<float> sane = logits;
    SanitizeLogits(absl::MakeSpan(sane));
    const auto expected = std::max_element(sane.begin(), sane.end()) - sane.begin();
    EXPECT_EQ(ArgMax(logits), expected) << vocab;
    logits.back() = kInfinity;
    EXPECT_EQ(ArgMax(logits), vocab - 1);
    logits.front() = std::numeric_limits<float>::max();  // an infinity counts as much
    EXPECT_EQ(ArgMax(logits), 0);
    EXPECT_EQ(DrawToken(absl::MakeSpan(logits), {.temperature = 0.5f, .top_k = 1}, 0.9), 0);
  }
  EXPECT_EQ(ArgMax(std::vector<float>(300, kNaN)), 0);
  EXPECT_EQ(ArgMax(std::vector<float>(300, -kInfinity)), 0);
}

TEST(Weights, OfARowAndItsSums) {
  for (const int size : {1, 127, 128, 129, 5000}) {
    const std::vector<float> logits = RandomLogits(size, 3, 13);
    const float largest = *std::max_element(logits.begin(), logits.end());
    std::vector<float> weights = logits;
    const float scale = WeightScale(0.8f);
    const std::vector<double> sums = WeighInPlace(absl::MakeSpan(weights), largest, scale);
    EXPECT_EQ(WeightSums(logits, largest, scale), sums);
    const std::vector<float> maxima = BlockMaxima(logits);
    ASSERT_EQ(sums.size(), maxima.size());
    for (size_t block = 0, i = 0; block < sums.size(); ++block) {
      double sum = 0;
      float top = -100;
      for (; i < logits.size() && i < (block + 1) * kRowBlock; ++i) {
        EXPECT_EQ(weights[i], LogitWeight(logits[i], largest, scale));  // to the bit
        EXPECT_LE(weights[i], sums[block]);
        sum += weights[i];
        top = std::max(top, logits[i]);
      }
      EXPECT_EQ(sums[block], sum);  // in whatever order
      EXPECT_EQ(maxima[block], top);
    }
  }
}

TEST(TopLogits, EqualsSorting) {
  for (const int vocab : {1, 5, 100, 5000}) {
    std::vector<float> logits = RandomLogits(vocab, 1, 9);
    for (float& logit : logits) logit = std::round(logit * 4) / 4;  // many ties
    std::vector<TokenLogprob> sorted;
    for (int i = 0; i < vocab; ++i) sorted.push_back({i, logits[static_cast<size_t>(i)]});
    std::stable_sort(
        sorted.begin(), sorted.end(),
        [](const TokenLogprob& a, const TokenLogprob& b) { return a.logprob > b.logprob; });
    for (const int k : {0, 1, 3, 20, 1000}) {
      const std::vector<TokenLogprob> top = TopLogits(logits, k);
      ASSERT_EQ(static_cast<int>(top.size()), std::min(k, vocab));
      for (size_t i = 0; i < top.size(); ++i) EXPECT_EQ(top[i].token_id, sorted[i].token_id);
    }
  }
}

TEST(LogSumExp, MatchesDoubles) {
  for (const float spread : {0.01f, 1.0f, 30.0f}) {
    const std::vector<float> logits = RandomLogits(4099, spread, 11);
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - largest);
    EXPECT_NEAR(LogSumExp(logits), largest + std::log(sum),
                3e-7 * std::max(1.0, std::fabs(largest)));
  }
}

}  // namespace
}  // namespace pregate
