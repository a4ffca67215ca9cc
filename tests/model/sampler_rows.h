// Steps of logit rows alone, for the tests of the sampler.
#ifndef PREGATE_TESTS_MODEL_SAMPLER_ROWS_H_
#define PREGATE_TESTS_MODEL_SAMPLER_ROWS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/model/sampler.h"

namespace pregate {

// A plan of logit rows alone: what the sampler reads of it.
struct Row {
  int32_t slot;
  int32_t position;  // of the row's token; the sampled one comes after
  std::vector<float> logits;
  int32_t target = -1;
  int32_t token = 0;  // of the row itself
};

// The logits of `rows`, all of one length, are given to the sampler in memory of its device.
inline SampledTokens SampleRows(Device& device, Sampler& sampler, const std::vector<Row>& rows) {
  BatchPlan plan;
  std::vector<float> logits;
  for (const Row& row : rows) {
    plan.logit_rows.push_back(static_cast<int32_t>(plan.positions.size()));
    plan.positions.push_back(row.position);
    plan.token_ids.push_back(row.token);
    plan.logit_slots.push_back(row.slot);
    plan.logit_targets.push_back(row.target);
    logits.insert(logits.end(), row.logits.begin(), row.logits.end());
  }
  const DeviceBuffer buffer = *device.Allocate(logits.size() * sizeof(float));
  device.CopyToDevice(buffer.data(), logits.data(), logits.size() * sizeof(float));
  return sampler.Sample(plan,
                        MakeView(buffer.data(), DType::kF32, static_cast<int64_t>(rows.size()),
                                 static_cast<int64_t>(rows[0].logits.size())));
}

// Two samplers agree to the bit.
inline void ExpectSame(const SampledTokens& a, const SampledTokens& b) {
  EXPECT_EQ(a.token_ids, b.token_ids);
  const auto tokens = [](const PositionLogprobs& logprobs) {
    std::vector<std::pair<int32_t, float>> all = {
        {logprobs.chosen.token_id, logprobs.chosen.logprob}};
    for (const auto* list : {&logprobs.top, &logprobs.wanted}) {
      all.emplace_back(-1, static_cast<float>(list->size()));
      for (const TokenLogprob& token : *list) all.emplace_back(token.token_id, token.logprob);
    }
    return all;
  };
  ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
  for (size_t k = 0; k < a.logprobs.size(); ++k) {
    ASSERT_EQ(a.logprobs[k].has_value(), b.logprobs[k].has_value()) << k;
    if (!a.logprobs[k].has_value()) continue;
    EXPECT_EQ(tokens(*a.logprobs[k]), tokens(*b.logprobs[k])) << k;
  }
}

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_SAMPLER_ROWS_H_
