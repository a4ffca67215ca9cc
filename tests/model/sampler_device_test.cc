// Sampling where the host cannot read logits: the tokens of a device whose logits it can, and how
// much of them crosses.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "engine/model/sampler.h"
#include "kernels/kernels.h"
#include "tests/model/distant_device.h"
#include "tests/model/sampler_rows.h"

namespace pregate {
namespace {

constexpr int32_t kVocab = 3000;
constexpr int64_t kRowBytes = kVocab * 4;
// What comes of each row of a step: one id with its logit, or 64 of both and a total.
constexpr int64_t kGreedyBytes = 2 * 4, kLikeliestBytes = (2 * 64 + 1) * 4;

// Normal logits: with a spread of 1 a nucleus has hundreds of tokens, with 5 a few.
std::vector<float> RandomLogits(float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

class SamplerDeviceTest : public testing::Test {
 protected:
  // Samples on the device and on a CPU, slot i having params[i], and compares.
  SampledTokens Sample(const std::vector<SamplingParams>& params, const std::vector<Row>& rows,
                       const std::vector<int32_t>& prompt = {}) {
    const int64_t bytes = device_.bytes_to_host(), copies = device_.copies_to_host();
    for (size_t i = 0; i < params.size(); ++i) {
      sampler_.Open(static_cast<int32_t>(i), params[i], prompt, {});
      host_sampler_.Open(static_cast<int32_t>(i), params[i], prompt, {});
    }
    SampledTokens sampled = SampleRows(device_, sampler_, rows);
    const SampledTokens expected = SampleRows(*host_, host_sampler_, rows);
    EXPECT_EQ(sampled.token_ids, expected.token_ids);
    for (size_t k = 0; k < rows.size(); ++k) {
      EXPECT_EQ(sampled.logprobs[k].has_value(), expected.logprobs[k].has_value());
      if (!sampled.logprobs[k].has_value() || !expected.logprobs[k].has_value()) continue;
      EXPECT_EQ(sampled.logprobs[k]->chosen.logprob, expected.logprobs[k]->chosen.logprob);
    }
    bytes_ = device_.bytes_to_host() - bytes;
    copies_ = device_.copies_to_host() - copies;
    return sampled;
  }

  DistantDevice device_{2};
  const std::unique_ptr<Device> host_ = MakeCpuDevice(2);
  Sampler sampler_{&device_, &ReferenceKernels(), kVocab, 16};
  Sampler host_sampler_{host_.get(), &ReferenceKernels(), kVocab, 16};
  int64_t bytes_ = 0, copies_ = 0;  // that the last call brought
};

TEST_F(SamplerDeviceTest, GreedyRowsBringOneToken) {
  const SamplingParams greedy = {.temperature = 0.0f};
  std::vector<Row> rows;
  for (int32_t slot = 0; slot < 5; ++slot) {
    rows.push_back({slot, slot, RandomLogits(2, static_cast<uint32_t>(slot))});
  }
  Sample({greedy, greedy, greedy, greedy, greedy}, rows);
  EXPECT_EQ(bytes_, 5 * kGreedyBytes);
  EXPECT_EQ(copies_, 1);
}

TEST_F(SamplerDeviceTest, TopKRowsBringCandidates) {
  std::vector<Row> rows;
  std::vector<SamplingParams> params;
  for (int32_t slot = 0; slot < 8; ++slot) {
    rows.push_back({slot, 7 * slot, RandomLogits(0.2f, static_cast<uint32_t>(slot))});
    params.push_back({.temperature = slot == 3 ? 0.0f : 0.9f, .top_k = 8 * slot + 8, .seed = 5});
  }
  params[1].top_p = 0.7f;
  params[2].min_p = 0.9f;
  Sample(params, rows);
  EXPECT_EQ(bytes_, 8 * kLikeliestBytes);
  params[7].top_k = 65;  // one more than is fetched
  Sample(params, rows);
  EXPECT_EQ(bytes_, 8 * kLikeliestBytes + kRowBytes);
}

TEST_F(SamplerDeviceTest, NucleiWithinTheCandidatesNeedNoMore) {
  const std::vector<Row> rows = {{0, 1, RandomLogits(5, 1)}, {1, 2, RandomLogits(1, 2)}};
  // Row 0 is peaked, row 1 flat: its nucleus has more tokens than are fetched.
  Sample({{.top_p = 0.9f}, {.top_p = 0.05f}}, rows);
  EXPECT_EQ(bytes_, 2 * kLikeliestBytes);
  Sample({{.top_p = 0.9f}, {.top_p = 0.9f}}, rows);
  EXPECT_EQ(bytes_, 2 * kLikeliestBytes + kRowBytes);
  Sample({{.min_p = 0.1f}, {.min_p = 0.5f}}, rows);
  EXPECT_EQ(bytes_, 2 * kLikeliestBytes);
  Sample({{.min_p = 0.1f}, {.min_p = 0.01f}}, rows);
  EXPECT_EQ(bytes_, 2 * kLikeliestBytes + kRowBytes);
  // min_p cuts what top_p would keep.
  Sample({{.top_p = 0.9f}, {.top_p = 0.9f, .min_p = 0.5f}}, rows);
  EXPECT_EQ(bytes_, 2 * kLikeliestBytes);
}

// Rows that need to come whole: each alone, so that one that did not would show.
TEST_F(SamplerDeviceTest, OtherRowsComeWhole) {
  SamplingParams greedy = {.temperature = 0.0f};
  std::vector<SamplingParams> whole(8, greedy);
  whole[0] = {};
  whole[1] = {.top_k = 10, .typical_p = 0.5f};
  whole[2].repetition_penalty = 1.1f;
  whole[3].presence_penalty = 0.5f;
  whole[4].frequency_penalty = 0.5f;
  whole[5].logit_bias = {{7, 3.0f}};
  whole[6].logprobs = 0;
  whole[7].min_tokens = 1;
  whole[7].stop_ids = {4};
  for (size_t i = 0; i < whole.size(); ++i) {
    SCOPED_TRACE(i);
    Sample({whole[i]}, {{0, 3, RandomLogits(2, 8)}}, {1, 2});
    EXPECT_EQ(bytes_, kRowBytes);
  }
  // Rows in succession come in one copy, and none of what lies between others.
  std::vector<Row> rows;
  std::vector<SamplingParams> params(8, greedy);
  for (int32_t slot = 0; slot < 8; ++slot) {
    rows.push_back({slot, slot, RandomLogits(2, static_cast<uint32_t>(slot))});
    if (slot != 0 && slot != 4) params[static_cast<size_t>(slot)] = SamplingParams();
  }
  Sample(params, rows);
  EXPECT_EQ(bytes_, 8 * kGreedyBytes + 6 * kRowBytes);
  EXPECT_EQ(copies_, 3);
}

TEST_F(SamplerDeviceTest, ScoredRows) {
  SamplingParams params = {.temperature = 0.0f};
  const std::vector<Row> rows = {
      {0, 0, RandomLogits(2, 1), 17}, {0, 1, RandomLogits(2, 2), 18}, {0, 2, RandomLogits(2, 3)}};
  EXPECT_EQ(Sample({params}, rows).token_ids[1], 18);
  EXPECT_EQ(bytes_, 3 * kGreedyBytes);
  params.logprobs = 2;
  Sample({params}, rows);
  EXPECT_EQ(bytes_, 3 * kRowBytes);
}

// min_tokens holds back what the first two of a run sample; the third needs one token.
TEST_F(SamplerDeviceTest, DraftedRowsAreDecidedOneByOne) {
  SamplingParams params = {.temperature = 0.0f, .min_tokens = 2, .stop_ids = {5}};
  std::vector<Row> rows;
  for (int32_t i = 0; i < 3; ++i) {
    rows.push_back({0, i, std::vector<float>(kVocab), -1, 10 + i - 1});
    rows.back().logits[5] = 9;
    rows.back().logits[static_cast<size_t>(10 + i)] = 8;
  }
  EXPECT_EQ(Sample({params}, rows).token_ids, (std::vector<int32_t>{10, 11, 5}));
  EXPECT_EQ(bytes_, 3 * kGreedyBytes + 2 * kRowBytes);
  rows[1].token = 77;  // is not what was sampled
  EXPECT_EQ(Sample({params}, rows).token_ids, (std::vector<int32_t>{10, kNotSampled, kNotSampled}));
}

// Whatever is asked for and however the logits lie, the tokens are those of whole rows.
TEST_F(SamplerDeviceTest, AnyParametersGiveTheTokensOfWholeRows) {
  std::mt19937 random(1);
  const auto pick = [&](std::initializer_list<float> choices) {
    return choices.begin()[random() % choices.size()];
  };
  int64_t bytes = 0;
  for (int step = 0; step < 60; ++step) {
    std::vector<SamplingParams> params;
    std::vector<Row> rows;
    for (int32_t slot = 0; slot < 16; ++slot) {
      SamplingParams p = {.temperature = pick({0, 0.2f, 0.7f, 1, 2}),
                          .top_k = static_cast<int32_t>(pick({0, 0, 1, 5, 64, 100})),
                          .top_p = pick({1, 1, 0.3f, 0.9f, 0.99f}),
                          .min_p = pick({0, 0, 0.02f, 0.3f}),
                          .typical_p = pick({1, 1, 1, 1, 0.8f}),
                          .repetition_penalty = pick({1, 1, 1, 1.2f}),
                          .seed = random()};
      if (random() % 8 == 0) p.logprobs = 3;
      params.push_back(p);
      rows.push_back({slot, step, RandomLogits(pick({0.5f, 2, 4, 8}), random())});
      // Halves, as many models compute them: equal logits.
      for (float& x : rows.back().logits) x = HalfToFloat(FloatToHalf(x));
    }
    Sample(params, rows, {3, 4, 5});
    bytes += bytes_;
  }
  EXPECT_LT(bytes, 60 * 16 * kRowBytes * 3 / 4);  // the short way is not the exception
}

TEST_F(SamplerDeviceTest, WithoutRoomForCandidatesRowsComeWhole) {
  const std::vector<Row> rows = {{0, 1, RandomLogits(5, 1)}, {1, 2, RandomLogits(1, 2)}};
  const DeviceBuffer buffer = *device_.Allocate(2 * kRowBytes);
  float* const logits = static_cast<float*>(buffer.data());
  BatchPlan plan;
  for (size_t k = 0; k < 2; ++k) {
    device_.CopyToDevice(logits + k * kVocab, rows[k].logits.data(), kRowBytes);
    plan.logit_rows.push_back(static_cast<int32_t>(k));
    plan.logit_slots.push_back(static_cast<int32_t>(k));
    plan.positions.push_back(rows[k].position);
    plan.token_ids.push_back(0);
    plan.logit_targets.push_back(-1);
  }
  const std::vector<SamplingParams> params = {{.temperature = 0.0f}, {.top_k = 20}};
  const SampledTokens expected = Sample(params, rows);
  Sampler fresh(&device_, &ReferenceKernels(), kVocab, 2);
  for (size_t k = 0; k < 2; ++k) fresh.Open(static_cast<int32_t>(k), params[k], {}, {});
  device_.set_has_room(false);
  const int64_t before = device_.bytes_to_host();
  const SampledTokens sampled = fresh.Sample(plan, MakeView(buffer.data(), DType::kF32, 2, kVocab));
  EXPECT_EQ(sampled.token_ids, expected.token_ids);
  EXPECT_EQ(device_.bytes_to_host() - before, 2 * kRowBytes);
}

}  // namespace
}  // namespace pregate
