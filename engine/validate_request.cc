// The one check of what clients ask, below every front end.
#include <cmath>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/engine.h"

namespace pregate {
namespace {

constexpr int kMaxAnswers = 16;
constexpr int kMaxStopIds = 128;
constexpr int kMaxLogitBias = 1024;
constexpr int kMaxLogprobs = 20;
constexpr int kMaxLogprobIds = 128;
constexpr float kMaxLogitBiasValue = 100.0f;

template <typename T>
absl::Status Refuse(absl::string_view field, absl::string_view rule, T got) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": must be ", rule, "; got ", got));
}

// A real-valued sampling parameter and its interval. `open_low`: the lower end is excluded.
struct RealRule {
  const char* name;
  float SamplingParams::*field;
  float low;
  float high;
  bool open_low;
  const char* rule;
};
constexpr RealRule kRealRules[] = {
    {"temperature", &SamplingParams::temperature, 0, 2, false, "in [0, 2]"},
    {"top_p", &SamplingParams::top_p, 0, 1, true, "in (0, 1]"},
    {"min_p", &SamplingParams::min_p, 0, 1, false, "in [0, 1]"},
    {"typical_p", &SamplingParams::typical_p, 0, 1, true, "in (0, 1]"},
    {"repetition_penalty", &SamplingParams::repetition_penalty, 0, 2, true, "in (0, 2]"},
    {"presence_penalty", &SamplingParams::presence_penalty, -2, 2, false, "in [-2, 2]"},
    {"frequency_penalty", &SamplingParams::frequency_penalty, -2, 2, false, "in [-2, 2]"},
};

absl::Status ValidateIds(absl::string_view field, const std::vector<int32_t>& ids,
                         const ModelInfo& model) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= model.vocab_size) {
      return Refuse(absl::StrCat(field, "[", i, "]"),
                    ids[i] < 0 ? ">= 0" : absl::StrCat("< ", model.vocab_size), ids[i]);
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateSampling(const SamplingParams& sampling, const ModelInfo& model) {
  for (const RealRule& rule : kRealRules) {
    const float value = sampling.*rule.field;
    // Written so that NaN fails it.
    const bool above = rule.open_low ? value > rule.low : value >= rule.low;
    if (!(above && value <= rule.high)) return Refuse(rule.name, rule.rule, value);
  }
  if (sampling.top_k < -1) return Refuse("top_k", ">= -1", sampling.top_k);
  if (sampling.logprobs < -1 || sampling.logprobs > kMaxLogprobs) {
    return Refuse("logprobs", absl::StrCat("in [0, ", kMaxLogprobs, "]"), sampling.logprobs);
  }
  if (sampling.logprob_token_ids.size() > kMaxLogprobIds) {
    return Refuse("logprob_token_ids", absl::StrCat("at most ", kMaxLogprobIds, " ids"),
                  sampling.logprob_token_ids.size());
  }
  if (absl::Status status = ValidateIds("logprob_token_ids", sampling.logprob_token_ids, model);
      !status.ok()) {
    return status;
  }
  if (sampling.logit_bias.size() > kMaxLogitBias) {
    return Refuse("logit_bias", absl::StrCat("at most ", kMaxLogitBias, " entries"),
                  sampling.logit_bias.size());
  }
  for (const auto& [id, bias] : sampling.logit_bias) {
    if (id < 0 || id >= model.vocab_size) {
      return Refuse("logit_bias", absl::StrCat("keyed by ids in [0, ", model.vocab_size, ")"), id);
    }
    if (!(std::abs(bias) <= kMaxLogitBiasValue)) {
      return Refuse(absl::StrCat("logit_bias[", id, "]"), "in [-100, 100]", bias);
    }
  }
  return absl::OkStatus();
}

absl::Status ValidatePrompt(const GenerationRequest& request, const ModelInfo& model) {
  const int64_t size = static_cast<int64_t>(request.prompt.size());
  if (size == 0) return Refuse("prompt_tokens", "at least one token", 0);
  if (size >= model.max_model_len - 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt_tokens: must be fewer than ", model.max_model_len - 1,
                     " (context_length_exceeded: prompt ", size, ", max_tokens ",
                     request.max_tokens, ", context ", model.max_model_len, "); got ", size));
  }
  // The first answer token needs a slot beside the prompt.
  const int64_t blocks = size / model.block_tokens + 1;
  if (blocks > model.kv_blocks) {
    return absl::InvalidArgumentError(absl::StrCat("prompt_tokens: must fit the KV cache: needs ",
                                                   blocks, " blocks; pool has ", model.kv_blocks,
                                                   "; got ", size, " tokens"));
  }
  return ValidateIds("prompt_tokens", request.prompt, model);
}

absl::Status ValidatePromptLogprobs(const GenerationRequest& request) {
  const int32_t top = request.prompt_logprobs;
  if (top < -1 || top > kMaxLogprobs) {
    return Refuse("prompt_logprobs", absl::StrCat("in [0, ", kMaxLogprobs, "]"), top);
  }
  if (top < 0) return absl::OkStatus();
  const int64_t bytes = PromptLogprobBytes(std::ssize(request.prompt), top,
                                           std::ssize(request.sampling[0].logprob_token_ids));
  if (bytes > kMaxPromptLogprobBytes) {
    return Refuse("prompt_logprobs",
                  absl::StrCat("at most ", kMaxPromptLogprobBytes, " bytes for the whole prompt"),
                  bytes);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateRequest(const GenerationRequest& request, const ModelInfo& model) {
  // Counts first: nothing below may be done more often than a bound allows.
  if (request.sampling.empty() || request.sampling.size() > kMaxAnswers) {
    return Refuse("n", absl::StrCat("in [1, ", kMaxAnswers, "]"), request.sampling.size());
  }
  if (request.stop_ids.size() > kMaxStopIds) {
    return Refuse("stop_token_ids", absl::StrCat("at most ", kMaxStopIds, " ids"),
                  request.stop_ids.size());
  }
  const int32_t fewest = request.prompt_logprobs >= 0 ? 0 : 1;
  if (request.max_tokens < fewest) {
    return Refuse("max_tokens", ">= 1, or 0 with prompt_logprobs", request.max_tokens);
  }
  if (request.min_tokens < 0) return Refuse("min_tokens", ">= 0", request.min_tokens);
  if (request.min_tokens > request.max_tokens) {
    return Refuse("min_tokens", absl::StrCat("<= max_tokens (", request.max_tokens, ")"),
                  request.min_tokens);
  }
  if (absl::Status status = ValidatePrompt(request, model); !status.ok()) return status;
  if (absl::Status status = ValidateIds("stop_token_ids", request.stop_ids, model); !status.ok()) {
    return status;
  }
  if (absl::Status status = ValidatePromptLogprobs(request); !status.ok()) return status;
  for (const SamplingParams& sampling : request.sampling) {
    if (absl::Status status = ValidateSampling(sampling, model); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ValidateRequest(const EncodingRequest& request, const ModelInfo& model) {
  const int64_t size = static_cast<int64_t>(request.ids.size());
  if (size < 1 || size > model.max_prompt_tokens) {
    return Refuse("input_tokens", absl::StrCat("in [1, ", model.max_prompt_tokens, "]"), size);
  }
  if (request.second_begin < 0 || request.second_begin >= size) {
    return Refuse("second_begin", absl::StrCat("in [0, ", size, ")"), request.second_begin);
  }
  return ValidateIds("input_tokens", request.ids, model);
}

int64_t PromptLogprobBytes(int64_t tokens, int64_t top, int64_t listed) {
  return tokens * (top + 1 + listed) * 8;
}

}  // namespace pregate
