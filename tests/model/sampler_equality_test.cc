// One seed, one token: sampling where the host cannot read logits against a CPU that sweeps whole
// rows, over random parameters, histories, drafts and logits.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "engine/model/sampler.h"
#include "tests/kernels/table_test.h"
#include "tests/model/sampler_rows.h"

namespace pregate {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kSlots = 16;

// A sequence of random choices.
class Chance {
 public:
  explicit Chance(uint32_t seed) : random_(seed) {}
  float Pick(std::initializer_list<float> choices) {
    return choices.begin()[random_() % choices.size()];
  }
  int32_t Below(int32_t bound) { return static_cast<int32_t>(random_() % uint32_t(bound)); }
  bool Once(int32_t in) { return Below(in) == 0; }

  std::vector<int32_t> Ids(int32_t vocab, int32_t most) {
    std::vector<int32_t> ids(static_cast<size_t>(Below(most + 1)));
    for (int32_t& id : ids) id = Below(vocab);
    return ids;
  }

  SamplingParams Params(int32_t vocab) {
    SamplingParams params = {
        .temperature = Pick({0, 0.2f, 0.7f, 1, 1, 2}),
        .top_k = static_cast<int32_t>(Pick({0, 0, 0, 1, 5, 64, 200, 1000})),
        .top_p = Pick({1, 1, 0.3f, 0.9f, 0.99f}),
        .min_p = Pick({0, 0, 0, 0.02f, 0.3f, 1}),
        .typical_p = Pick({1, 1, 1, 1, 1, 1, 1, 0.8f}),
        .repetition_penalty = Pick({1, 1, 1.2f, 0.8f}),
        .presence_penalty = Pick({0, 0, 0.5f}),
        .frequency_penalty = Pick({0, 0, 0.7f, -0.3f}),
        .seed = random_(),
        .min_tokens = Below(4),
        .stop_ids = Ids(vocab, 2),
        .logprobs = static_cast<int32_t>(Pick({-1, -1, -1, 0, 3, 20})),
    };
    if (Once(4)) {
      for (const int32_t id : Ids(vocab, 5)) params.logit_bias.emplace_back(id, Pick({-100, 3, 9}));
    }
    if (Once(6)) params.logprob_token_ids = Ids(vocab, 3);
    return params;
  }

  // Spread or flat; in halves, as many models compute them, or in quarters: with ties; with
  // numbers that are none.
  std::vector<float> Logits(int32_t vocab) {
    std::normal_distribution<float> normal(0, Pick({0.5f, 2, 4, 8}));
    const float step = Pick({0, 0, 1.0f / 256, 0.25f});
    const bool strange = Once(6);
    std::vector<float> logits(static_cast<size_t>(vocab));
    for (float& logit : logits) {
      logit = normal(random_);
      if (step > 0) logit = std::round(logit / step) * step;
      if (strange && Once(3)) logit = Pick({kNaN, -kInfinity, kNaN, -1e38f});
    }
    if (strange && Once(3)) logits[static_cast<size_t>(Below(vocab))] = kInfinity;
    if (Once(40)) std::fill(logits.begin(), logits.end(), Pick({kNaN, -kInfinity}));
    return logits;
  }

 private:
  std::mt19937 random_;
};

class SamplerEqualityTest : public TableTest {
 protected:
  // Returns how many tokens were sampled.
  int64_t Run(int32_t vocab, int steps, uint32_t seed) {
    Chance chance(seed);
    Sampler there(device_.get(), &kernels(), vocab, kSlots);
    Sampler here(host_.get(), &reference(), vocab, kSlots);
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      const SamplingParams params = chance.Params(vocab);
      const std::vector<int32_t> prompt = chance.Ids(vocab, 40), answer = chance.Ids(vocab, 9);
      there.Open(slot, params, prompt, answer);
      here.Open(slot, params, prompt, answer);
    }
    int64_t sampled = 0;
    std::vector<int32_t> last(kSlots, 0);
    for (int step = 0; step < steps; ++step) {
      std::vector<Row> rows;
      for (int32_t slot = 0; slot < kSlots; ++slot) {
        if (chance.Once(5)) {
          rows.push_back({slot, step, chance.Logits(vocab), chance.Below(vocab)});
        }
        rows.push_back({slot, step, chance.Logits(vocab), -1, last[static_cast<size_t>(slot)]});
        // Drafts, of which a small vocabulary makes some right ones.
        for (int32_t draft = chance.Below(3); draft > 0; --draft) {
          rows.push_back({slot, rows.back().position + 1, chance.Logits(vocab), -1,
                          chance.Below(std::min(vocab, 3))});
        }
      }
      const SampledTokens expected = SampleRows(*host_, here, rows);
      ExpectSame(SampleRows(*device_, there, rows), expected);
      if (HasFailure()) return sampled;
      for (size_t k = 0; k < rows.size(); ++k) {
        if (rows[k].target >= 0 || expected.token_ids[k] == kNotSampled) continue;
        last[static_cast<size_t>(rows[k].slot)] = expected.token_ids[k];
        ++sampled;
      }
    }
    return sampled;
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, SamplerEqualityTest, testing::ValuesIn(TablesUnderTest()),
                         TableName);

TEST_P(SamplerEqualityTest, AnyParametersGiveTheSameTokens) {
  int64_t sampled = 0;
  for (uint32_t seed = 1; seed <= (GetParam().slow ? 4u : 20u) && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    sampled += Run(1, 3, seed);
    sampled += Run(257, GetParam().slow ? 8 : 20, seed);
    if (!GetParam().slow) sampled += Run(4099, 4, seed);
  }
  EXPECT_GT(sampled, GetParam().slow ? 400 : 6000);
}

TEST_P(SamplerEqualityTest, AsMuchOfALargeVocabulary) {
  EXPECT_GT(Run(32003, GetParam().slow ? 2 : 40, 77), GetParam().slow ? 30 : 600);
}

}  // namespace
}  // namespace pregate
