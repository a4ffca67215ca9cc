// The sampler: parameters one by one, the order between them, and what it promises about company;
// on a device whose logits the host reads, and where it cannot.
#include "engine/model/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/kernels/table_test.h"
#include "tests/model/sampler_rows.h"

namespace pregate {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class SamplerTest : public TableTest {
 protected:
  void SetUp() override {
    TableTest::SetUp();
    if (device_) sampler_.emplace(device_.get(), &kernels(), 4, 3);
  }
  SampledTokens SampleRows(const std::vector<Row>& rows) {
    return pregate::SampleRows(*device_, *sampler_, rows);
  }
  int32_t SampleOne(const std::vector<float>& logits, int32_t position = 0) {
    return SampleRows({{0, position, logits}}).token_ids[0];
  }
  // How often each of four tokens is drawn over many positions; fewer where each takes long.
  std::vector<int> Count(const std::vector<float>& logits) {
    const int draws = device_->name() == "shim" ? 80 : 2000;
    std::vector<int> counts(logits.size());
    for (int i = 0; i < draws; ++i) ++counts[static_cast<size_t>(SampleOne(logits, i))];
    return counts;
  }
  void OpenGreedy(SamplingParams params, absl::Span<const int32_t> prompt = {},
                  absl::Span<const int32_t> generated = {}) {
    params.temperature = 0.0f;
    sampler_->Open(0, params, prompt, generated);
  }

  std::optional<Sampler> sampler_;
  SamplingParams params_;
};
INSTANTIATE_TEST_SUITE_P(Devices, SamplerTest, testing::ValuesIn(TablesUnderTest()), TableName);

TEST_P(SamplerTest, GreedyTakesTheLowestIdOfTheLargest) {
  OpenGreedy(params_);
  EXPECT_EQ(SampleOne({1, 3, 3, 2}), 1);
  EXPECT_EQ(SampleOne({5, 5, 5, 5}), 0);
}

TEST_P(SamplerTest, TinyTemperatureIsGreedy) {
  params_.temperature = 5e-6f;
  sampler_->Open(0, params_, {}, {});
  for (int position = 0; position < 50; ++position) {
    EXPECT_EQ(SampleOne({0, 1e-3f, 0, 0}, position), 1);
  }
}

TEST_P(SamplerTest, BrokenLogitsAreNeverChosen) {
  for (const float temperature : {0.0f, 1.0f}) {
    params_.temperature = temperature;
    sampler_->Open(0, params_, {}, {});
    EXPECT_EQ(SampleOne({kNaN, -kInfinity, 1, kNaN}), 2);
    EXPECT_EQ(SampleOne({kNaN, kNaN, kNaN, kNaN}), 0);
    EXPECT_EQ(SampleOne({0, 1, 2, kInfinity}), 3);
  }
}

TEST_P(SamplerTest, PaddingOfTheLogitsIsIgnored) {
  OpenGreedy(params_);
  EXPECT_EQ(SampleOne({0, 1, 0, 0, 99, 99}), 1);
}

TEST_P(SamplerTest, LogitBias) {
  params_.logit_bias = {{2, 10.0f}, {0, -1.0f}};
  OpenGreedy(params_);
  EXPECT_EQ(SampleOne({5, 0, 0, 0}), 2);
}

TEST_P(SamplerTest, StopIdsWaitForMinTokens) {
  params_.min_tokens = 2;
  params_.stop_ids = {3};
  params_.logit_bias = {{3, 50.0f}};  // not even a bias brings it forward
  OpenGreedy(params_);
  EXPECT_EQ(SampleOne({0, 1, 0, 9}), 1);
  EXPECT_EQ(SampleOne({0, 1, 0, 9}), 1);
  EXPECT_EQ(SampleOne({0, 1, 0, 9}), 3);
}

TEST_P(SamplerTest, RepetitionPenaltySeesPromptAndAnswer) {
  params_.repetition_penalty = 2.0f;
  OpenGreedy(params_, {1, 1});
  EXPECT_EQ(SampleOne({1.5f, 2.9f, 0, 0}), 0);         // 2.9 / 2 < 1.5
  EXPECT_EQ(SampleOne({1.5f, 2.9f, 0, 0}), 1);         // both halved now
  EXPECT_EQ(SampleOne({-1, -1.5f, -2.5f, -1.9f}), 3);  // negative ones are multiplied
}

TEST_P(SamplerTest, PresenceAndFrequencySeeTheAnswerAlone) {
  params_.presence_penalty = 1.0f;
  params_.frequency_penalty = 0.5f;
  OpenGreedy(params_, {1, 1, 1});
  EXPECT_EQ(SampleOne({0, 2.1f, 0, 0}), 1);    // the prompt does not count
  EXPECT_EQ(SampleOne({0, 1.4f, 0, 0}), 0);    // 1.4 - 1 - 0.5 < 0
  EXPECT_EQ(SampleOne({0, 1.6f, 0, 0}), 1);    // 1.6 - 1.5 > 0
  EXPECT_EQ(SampleOne({-9, 1.9f, 0, -9}), 2);  // twice in the answer: 1.9 - 1 - 2 * 0.5 < 0
}

TEST_P(SamplerTest, PreemptedSequenceTakesItsAnswerAlong) {
  params_.frequency_penalty = 1.0f;
  params_.min_tokens = 2;
  params_.stop_ids = {3};
  OpenGreedy(params_, {0}, {1, 1});
  EXPECT_EQ(SampleOne({0, 1.9f, 0, 0}), 0);  // 1.9 - 2 < 0, and ids 0 and 3 tie
  EXPECT_EQ(SampleOne({0, 0, 0, 9}), 3);     // min_tokens is reached
}

TEST_P(SamplerTest, FiltersLeaveWhatTheyName) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f),
                                     std::log(0.05f)};
  const auto survivors = [&](const SamplingParams& params) {
    sampler_->Open(0, params, {}, {});
    std::vector<int> alive;
    const std::vector<int> counts = Count(logits);
    for (int id = 0; id < 4; ++id) {
      if (counts[static_cast<size_t>(id)] > 0) alive.push_back(id);
    }
    return alive;
  };
  using Ids = std::vector<int>;
  EXPECT_EQ(survivors({}), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(survivors({.top_k = 3}), (Ids{0, 1, 2}));
  EXPECT_EQ(survivors({.top_k = 1}), (Ids{0}));
  EXPECT_EQ(survivors({.top_p = 0.79f}), (Ids{0, 1}));
  EXPECT_EQ(survivors({.top_p = 0.81f}), (Ids{0, 1, 2}));
  EXPECT_EQ(survivors({.top_p = 1e-6f}), (Ids{0}));
  EXPECT_EQ(survivors({.min_p = 0.31f}), (Ids{0, 1}));
  EXPECT_EQ(survivors({.min_p = 1.0f}), (Ids{0}));
  // Entropy 1.14: information 1.20 of token 1 is the closest, then 0.69 of 0, then 1.90 of 2.
  EXPECT_EQ(survivors({.typical_p = 0.25f}), (Ids{1}));
  EXPECT_EQ(survivors({.typical_p = 0.7f}), (Ids{0, 1}));
  // top_k renormalises for top_p: 0.5 / 0.8 = 0.625 of what is left.
  EXPECT_EQ(survivors({.top_k = 2, .top_p = 0.6f}), (Ids{0}));
  EXPECT_EQ(survivors({.top_k = 3, .min_p = 0.5f}), (Ids{0, 1}));
}

TEST_P(SamplerTest, LogprobsAreTheModelsOwn) {
  params_.temperature = 0.0f;
  params_.logprobs = 2;
  params_.logit_bias = {{3, 100.0f}};
  sampler_->Open(0, params_, {}, {});
  const std::vector<float> logits = {std::log(0.1f), std::log(0.2f), std::log(0.6f),
                                     std::log(0.1f)};
  const SampledTokens sampled = SampleRows({{0, 0, logits}, {0, 1, logits, 1}});
  ASSERT_TRUE(sampled.logprobs[0].has_value() && sampled.logprobs[1].has_value());
  EXPECT_EQ(sampled.token_ids[0], 3);
  EXPECT_NEAR(sampled.logprobs[0]->chosen.logprob, std::log(0.1), 1e-6);
  ASSERT_EQ(sampled.logprobs[0]->top.size(), 2u);
  EXPECT_EQ(sampled.logprobs[0]->top[0].token_id, 2);
  EXPECT_NEAR(sampled.logprobs[0]->top[0].logprob, std::log(0.6), 1e-6);
  EXPECT_EQ(sampled.logprobs[0]->top[1].token_id, 1);
  // A scored row gives its target back.
  EXPECT_EQ(sampled.token_ids[1], 1);
  EXPECT_NEAR(sampled.logprobs[1]->chosen.logprob, std::log(0.2), 1e-6);
}

// Against a softmax in double, summed here.
TEST_P(SamplerTest, LogprobsOfNamedIds) {
  params_.temperature = 0.0f;
  params_.logprob_token_ids = {3, 0, 3};
  params_.logit_bias = {{0, 100.0f}};
  params_.repetition_penalty = 2.0f;
  const std::vector<float> logits = {-1.5f, 7.25f, 0.5f, 3.0f};
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit});
  const auto expect_named = [&](const SampledTokens& sampled, size_t top) {
    for (const std::optional<PositionLogprobs>& row : sampled.logprobs) {
      ASSERT_TRUE(row.has_value());
      EXPECT_EQ(row->top.size(), top);
      ASSERT_EQ(row->wanted.size(), 3u);
      for (size_t i = 0; i < 3; ++i) {
        const int32_t id = params_.logprob_token_ids[i];
        EXPECT_EQ(row->wanted[i].token_id, id);
        EXPECT_NEAR(row->wanted[i].logprob,
                    std::log(std::exp(double{logits[static_cast<size_t>(id)]}) / sum), 1e-5);
      }
    }
  };
  // A sampled row and a scored one; alone, and beside the likeliest.
  sampler_->Open(0, params_, {1, 3}, {});
  expect_named(SampleRows({{0, 0, logits}, {0, 1, logits, 2}}), 0);
  params_.logprobs = 2;
  sampler_->Open(0, params_, {1, 3}, {});
  expect_named(SampleRows({{0, 0, logits}, {0, 1, logits, 2}}), 2);
  // What is no number has no probability.
  sampler_->Open(0, params_, {}, {});
  const auto broken = SampleRows({{0, 0, {kNaN, 1, -kInfinity, kNaN}}});
  EXPECT_EQ(broken.logprobs[0]->wanted[0].logprob, -kInfinity);
}

TEST_P(SamplerTest, NoLogprobsUnlessAsked) {
  sampler_->Open(0, params_, {}, {});
  EXPECT_FALSE(SampleRows({{0, 0, {1, 2, 3, 4}}}).logprobs[0].has_value());
}

// A row after the first of a slot counts if the one before it sampled the row's token.
TEST_P(SamplerTest, DraftsCountAsLongAsTheyAreRight) {
  const std::vector<float> one = {0, 9, 0, 0}, two = {0, 0, 9, 0}, three = {0, 0, 0, 9};
  const auto sample = [&](int32_t first_draft, int32_t second_draft) {
    OpenGreedy(params_);
    return SampleRows(
               {{0, 5, one, -1, 0}, {0, 6, two, -1, first_draft}, {0, 7, three, -1, second_draft}})
        .token_ids;
  };
  EXPECT_EQ(sample(1, 2), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(sample(1, 3), (std::vector<int32_t>{1, 2, kNotSampled}));
  EXPECT_EQ(sample(3, 2), (std::vector<int32_t>{1, kNotSampled, kNotSampled}));
}

// With and without drafts: the same tokens, penalties and random numbers included.
TEST_P(SamplerTest, DraftsChangeNoToken) {
  params_.frequency_penalty = 0.7f;
  params_.repetition_penalty = 1.3f;
  params_.seed = 11;
  params_.min_tokens = 3;
  params_.stop_ids = {3};
  std::vector<std::vector<float>> logits;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 40; ++i) {
    logits.push_back({normal(random), normal(random), normal(random), normal(random)});
  }
  sampler_->Open(0, params_, {}, {});
  std::vector<int32_t> alone;
  for (int i = 0; i < 40; ++i) {
    alone.push_back(SampleOne(logits[static_cast<size_t>(i)], i));
  }
  sampler_->Open(0, params_, {}, {});
  std::vector<int32_t> drafted;
  std::uniform_int_distribution<int32_t> token(0, 3);
  while (drafted.size() < alone.size()) {
    const int32_t begin = static_cast<int32_t>(drafted.size());
    std::vector<Row> rows;
    for (int32_t i = begin; i < std::min(begin + 4, 40); ++i) {
      const bool right = i == begin || random() % 4 != 0;
      rows.push_back({0, i, logits[static_cast<size_t>(i)], -1,
                      right && i > 0 ? alone[static_cast<size_t>(i) - 1] : token(random)});
    }
    for (const int32_t id : SampleRows(rows).token_ids) {
      if (id != kNotSampled) drafted.push_back(id);
    }
  }
  EXPECT_EQ(drafted, alone);
}

// A token depends on its own logits, parameters, history and position: not on the slot, the
// neighbours or the threads.
TEST_P(SamplerTest, TokensAreTheSameInAnyCompany) {
  constexpr int32_t kVocab = 1000, kSequences = 7;
  const int32_t steps = device_->name() == "shim" ? 6 : 20;  // each takes long there
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 3);
  std::vector<std::vector<float>> logits(static_cast<size_t>(steps * kSequences),
                                         std::vector<float>(kVocab));
  for (auto& row : logits) {
    for (float& logit : row) logit = normal(random);
  }
  std::vector<SamplingParams> params(kSequences);
  for (int s = 0; s < kSequences; ++s) {
    params[s] = {.temperature = 0.3f * static_cast<float>(s), .seed = 42u + unsigned(s)};
    if (s % 2 == 1) params[s].top_p = 0.9f;
    if (s % 3 == 1) params[s].top_k = 40;
    if (s % 3 == 2) params[s].repetition_penalty = 1.2f;
  }

  const auto alone_device = MakeDevice(1);
  Sampler together(device_.get(), &kernels(), kVocab, kSequences);
  for (int s = 0; s < kSequences; ++s) together.Open(s, params[s], {}, {});
  std::vector<std::vector<int32_t>> tokens(kSequences);
  for (int step = 0; step < steps; ++step) {
    std::vector<Row> rows;
    for (int s = 0; s < kSequences; ++s) rows.push_back({s, step, logits[step * kSequences + s]});
    const SampledTokens sampled = pregate::SampleRows(*device_, together, rows);
    for (int s = 0; s < kSequences; ++s) tokens[s].push_back(sampled.token_ids[s]);
  }
  for (int s = 0; s < kSequences; ++s) {
    Sampler alone(alone_device.get(), &kernels(), kVocab, 1);
    alone.Open(0, params[s], {}, {});
    for (int step = 0; step < steps; ++step) {
      EXPECT_EQ(
          pregate::SampleRows(*alone_device, alone, {{0, step, logits[step * kSequences + s]}})
              .token_ids[0],
          tokens[s][step]);
    }
  }
}

}  // namespace
}  // namespace pregate
