// Sampling where the host cannot read logits: how much of them crosses, for each kind of request.
#include <gtest/gtest.h>

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
// What comes of a sampled row: the token and its logit.
constexpr int64_t kDrawBytes = 2 * 4;
// What comes of every row of a step in which some want log-probabilities, with k likeliest tokens.
constexpr int64_t TopBytes(int32_t k) { return 8 + k * int64_t{8}; }

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
    ExpectSame(sampled, expected);
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

// Each kind alone, so that a row that came would show, and all together.
TEST_F(SamplerDeviceTest, TokensCrossAndNoRows) {
  std::vector<SamplingParams> kinds(12);
  kinds[0].temperature = 0.0f;
  kinds[2].top_k = 40;
  kinds[3].top_k = kMaxLikeliest;
  kinds[4].top_p = 0.9f;
  kinds[5].min_p = 0.01f;
  kinds[6] = {.temperature = 0.8f, .top_k = 100, .top_p = 0.95f, .min_p = 0.02f};
  kinds[7].repetition_penalty = 1.1f;
  kinds[8].presence_penalty = 0.5f;
  kinds[9].frequency_penalty = 0.5f;
  kinds[10].logit_bias = {{7, 3.0f}, {9, -100.0f}};
  kinds[11].min_tokens = 1;
  kinds[11].stop_ids = {4};
  std::vector<Row> rows;
  for (size_t i = 0; i < kinds.size(); ++i) {
    SCOPED_TRACE(i);
    for (const float spread : {1.0f, 5.0f}) {  // a nucleus of hundreds of tokens, and of a few
      Sample({kinds[i]}, {{0, 3, RandomLogits(spread, 8)}}, {1, 2});
      EXPECT_EQ(bytes_, kDrawBytes);
    }
    rows.push_back({static_cast<int32_t>(i), 5, RandomLogits(2, static_cast<uint32_t>(i))});
  }
  Sample(kinds, rows, {1, 2, 3});
  EXPECT_EQ(bytes_, 12 * kDrawBytes);
  EXPECT_EQ(copies_, 1);
}

TEST_F(SamplerDeviceTest, LogprobsBringWhatTheyTell) {
  const std::vector<Row> row = {{0, 3, RandomLogits(2, 8)}};
  Sample({{.temperature = 0.7f, .logprobs = 0}}, row);
  EXPECT_EQ(bytes_, kDrawBytes + TopBytes(1));
  Sample({{.temperature = 0.0f, .logprobs = 20}}, row);
  EXPECT_EQ(bytes_, kDrawBytes + TopBytes(20));
  // Each named id has a logit of its own.
  Sample({{.logprobs = 3, .logprob_token_ids = {5, 17, 5}}}, row);
  EXPECT_EQ(bytes_, kDrawBytes + TopBytes(3) + 3 * 4);
  // And each that a penalty changes: the two of the prompt, and one that is biased.
  Sample({{.repetition_penalty = 1.5f, .logit_bias = {{30, 1.0f}}, .logprobs = 1}}, row, {1, 2});
  EXPECT_EQ(bytes_, kDrawBytes + TopBytes(1) + 3 * 4);
  EXPECT_EQ(copies_, 1);
}

TEST_F(SamplerDeviceTest, ScoredRows) {
  SamplingParams params = {.temperature = 0.0f};
  const std::vector<Row> rows = {
      {0, 0, RandomLogits(2, 1), 17}, {0, 1, RandomLogits(2, 2), 18}, {0, 2, RandomLogits(2, 3)}};
  EXPECT_EQ(Sample({params}, rows).token_ids[1], 18);
  EXPECT_EQ(bytes_, kDrawBytes);
  params.logprobs = 2;
  Sample({params}, rows);
  EXPECT_EQ(bytes_, kDrawBytes + 3 * TopBytes(2) + 2 * 4);  // and the targets' logits
}

// What the device cannot draw comes whole.
TEST_F(SamplerDeviceTest, TypicalRowsComeWhole) {
  const std::vector<Row> row = {{0, 3, RandomLogits(2, 8)}};
  for (const SamplingParams& params :
       std::vector<SamplingParams>{{.typical_p = 0.5f},
                                   {.top_k = kMaxLikeliest + 1},
                                   {.top_k = 10, .typical_p = 0.5f, .repetition_penalty = 1.2f}}) {
    Sample({params}, row, {1, 2});
    EXPECT_EQ(bytes_, kRowBytes);
  }
  Sample({{.top_k = kVocab}}, row);  // keeps all
  EXPECT_EQ(bytes_, kDrawBytes);
  SamplingParams params = {.typical_p = 0.7f, .repetition_penalty = 1.2f, .logprobs = 2};
  Sample({params}, row, {1, 2});
  EXPECT_EQ(bytes_, kRowBytes + TopBytes(2) + 2 * 4);
  // Rows in succession come in one copy, and none of what lies between others.
  std::vector<Row> rows;
  std::vector<SamplingParams> some(8);
  for (int32_t slot = 0; slot < 8; ++slot) {
    rows.push_back({slot, slot, RandomLogits(2, static_cast<uint32_t>(slot))});
    if (slot != 0 && slot != 4) some[static_cast<size_t>(slot)].typical_p = 0.9f;
  }
  Sample(some, rows);
  EXPECT_EQ(bytes_, 2 * kDrawBytes + 6 * kRowBytes);
  EXPECT_EQ(copies_, 3);
}

// min_tokens holds back what the first two of a run sample; a penalty sees what was drafted.
TEST_F(SamplerDeviceTest, DraftedRowsAreAskedAsIfTheyCounted) {
  SamplingParams params = {.temperature = 0.0f, .min_tokens = 2, .stop_ids = {5}};
  std::vector<Row> rows;
  for (int32_t i = 0; i < 3; ++i) {
    rows.push_back({0, i, std::vector<float>(kVocab), -1, 10 + i - 1});
    rows.back().logits[5] = 9;
    rows.back().logits[static_cast<size_t>(10 + i)] = 8;
  }
  EXPECT_EQ(Sample({params}, rows).token_ids, (std::vector<int32_t>{10, 11, 5}));
  EXPECT_EQ(bytes_, 3 * kDrawBytes);
  rows[1].token = 77;  // is not what was sampled
  EXPECT_EQ(Sample({params}, rows).token_ids, (std::vector<int32_t>{10, kNotSampled, kNotSampled}));
  params = {.temperature = 0.0f, .frequency_penalty = 1.0f};
  for (int32_t i = 0; i < 3; ++i) {
    rows[static_cast<size_t>(i)].logits.assign(kVocab, 0.0f);
    rows[static_cast<size_t>(i)].logits[6] = 1.5f;
    rows[static_cast<size_t>(i)].logits[7] = 1.0f;
    rows[static_cast<size_t>(i)].token = i == 2 ? 7 : 6;
  }
  // 6 falls to 0.5, then 7 to 0: after both, 6 is the likeliest again.
  EXPECT_EQ(Sample({params}, rows).token_ids, (std::vector<int32_t>{6, 7, 6}));
  // What was drafted and not sampled is forgotten.
  rows[1].token = 8;
  EXPECT_EQ(Sample({params}, rows).token_ids, (std::vector<int32_t>{6, kNotSampled, kNotSampled}));
  const std::vector<Row> next = {{0, 1, rows[0].logits}};
  EXPECT_EQ(SampleRows(device_, sampler_, next).token_ids[0], 7);
  EXPECT_EQ(SampleRows(*host_, host_sampler_, next).token_ids[0], 7);
}

TEST_F(SamplerDeviceTest, WithoutRoomForAnswersRowsComeWhole) {
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
  const std::vector<SamplingParams> params = {{.temperature = 0.0f, .logprobs = 2},
                                              {.top_k = 20, .repetition_penalty = 1.5f}};
  const SampledTokens expected = Sample(params, rows, {3, 4});
  Sampler fresh(&device_, &ReferenceKernels(), kVocab, 2);
  for (size_t k = 0; k < 2; ++k) fresh.Open(static_cast<int32_t>(k), params[k], {3, 4}, {});
  device_.set_has_room(false);
  const int64_t before = device_.bytes_to_host();
  const SampledTokens sampled = fresh.Sample(plan, MakeView(buffer.data(), DType::kF32, 2, kVocab));
  ExpectSame(sampled, expected);
  EXPECT_EQ(device_.bytes_to_host() - before, 2 * kRowBytes);
}

}  // namespace
}  // namespace pregate
