#include "engine/model/sampler_slot.h"

#include <limits>

namespace pregate {
namespace {

// Below this temperature the softmax is the argmax in all but name, and 1 / T would overflow.
constexpr float kGreedyTemperature = 1e-5f;

}  // namespace

SamplerSlot::SamplerSlot(const SamplingParams& params, absl::Span<const int32_t> prompt,
                         absl::Span<const int32_t> generated)
    : params_(params) {
  for (const auto& [id, bias] : params.logit_bias) At(id).bias += bias;
  if (params.min_tokens > 0) {
    for (const int32_t id : params.stop_ids) At(id).stops = true;
  }
  if (HasPenalties()) {
    for (const int32_t id : prompt) At(id).in_prompt = true;
  }
  for (const int32_t id : generated) Generate(id);
}

bool SamplerSlot::is_greedy() const { return params_.temperature < kGreedyTemperature; }

void SamplerSlot::Generate(int32_t id) {
  ++generated_;
  if (HasPenalties()) ++At(id).count;
}

void SamplerSlot::Forget(int32_t id) {
  --generated_;
  if (HasPenalties()) --At(id).count;
}

bool SamplerSlot::HasPenalties() const {
  return params_.repetition_penalty != 1.0f || params_.presence_penalty != 0.0f ||
         params_.frequency_penalty != 0.0f;
}

SamplerSlot::Token& SamplerSlot::At(int32_t id) {
  const auto [it, is_new] = index_.try_emplace(id, tokens_.size());
  if (is_new) tokens_.push_back({.id = id});
  return tokens_[it->second];
}

LogitEdit SamplerSlot::EditOf(const Token& token) const {
  LogitEdit edit = {.place = {0, token.id}, .bias = token.bias};
  if (token.stops && generated_ < params_.min_tokens) {
    edit.bias = -std::numeric_limits<float>::infinity();
  }
  if (token.in_prompt || token.count > 0) edit.repetition = params_.repetition_penalty;
  if (token.count > 0) {
    edit.penalty =
        params_.frequency_penalty * static_cast<float>(token.count) + params_.presence_penalty;
  }
  return edit;
}

}  // namespace pregate
