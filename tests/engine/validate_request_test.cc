// ValidateRequest: every rule, its message, and the values at its edges.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "engine/engine.h"

namespace pregate {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

ModelInfo TestModel() {
  ModelInfo model;
  model.vocab_size = 49152;
  model.max_model_len = 2048;
  model.kv_blocks = 100;
  model.block_tokens = 16;
  return model;
}

GenerationRequest GoodRequest() {
  GenerationRequest request;
  request.prompt = {1, 2, 3};
  request.sampling.resize(1);
  return request;
}

struct Case {
  const char* name;  // the row of the bad-input matrix it belongs to
  std::function<void(GenerationRequest&)> change;
  const char* message;  // "": accepted
};

SamplingParams& Sampling(GenerationRequest& request) { return request.sampling[0]; }

const Case kCases[] = {
    {"plain", [](auto&) {}, ""},
    {"A1 id = vocabulary", [](auto& r) { r.prompt[1] = 49152; },
     "prompt_tokens[1]: must be < 49152; got 49152"},
    {"A1 id -1", [](auto& r) { r.prompt[0] = -1; }, "prompt_tokens[0]: must be >= 0; got -1"},
    {"A1 last id", [](auto& r) { r.prompt[0] = 49151; }, ""},
    {"A2 context - 1", [](auto& r) { r.prompt.assign(2047, 1); },
     "prompt_tokens: must be fewer than 2047 (context_length_exceeded: prompt 2047, max_tokens "
     "256, context 2048); got 2047"},
    {"A3 pool", [](auto& r) { r.prompt.assign(1600, 1); },
     "prompt_tokens: must fit the KV cache: needs 101 blocks; pool has 100; got 1600 tokens"},
    {"A3 pool holds it", [](auto& r) { r.prompt.assign(1599, 1); }, ""},
    {"A4 more than the context", [](auto& r) { r.max_tokens = 1 << 30; }, ""},
    {"A5", [](auto& r) { r.max_tokens = 0; },
     "max_tokens: must be >= 1, or 0 with prompt_logprobs; got 0"},
    {"A5 the prompt is scored", [](auto& r) { r.max_tokens = 0, r.prompt_logprobs = 0; }, ""},
    {"A6", [](auto& r) { r.max_tokens = -1, r.prompt_logprobs = 0; },
     "max_tokens: must be >= 1, or 0 with prompt_logprobs; got -1"},
    {"A7", [](auto& r) { r.min_tokens = 257; }, "min_tokens: must be <= max_tokens (256); got 257"},
    {"A7 negative", [](auto& r) { r.min_tokens = -1; }, "min_tokens: must be >= 0; got -1"},
    {"A8 NaN", [](auto& r) { Sampling(r).temperature = kNaN; },
     "temperature: must be in [0, 2]; got nan"},
    {"A8 inf", [](auto& r) { Sampling(r).temperature = kInf; },
     "temperature: must be in [0, 2]; got inf"},
    {"A8 -inf", [](auto& r) { Sampling(r).temperature = -kInf; },
     "temperature: must be in [0, 2]; got -inf"},
    {"A8 negative", [](auto& r) { Sampling(r).temperature = -0.1f; },
     "temperature: must be in [0, 2]; got -0.1"},
    {"A8 tiny", [](auto& r) { Sampling(r).temperature = 1e-30f; }, ""},
    {"A8 high", [](auto& r) { Sampling(r).temperature = 2.1f; },
     "temperature: must be in [0, 2]; got 2.1"},
    {"A9 top_p 0", [](auto& r) { Sampling(r).top_p = 0; }, "top_p: must be in (0, 1]; got 0"},
    {"A9 top_p high", [](auto& r) { Sampling(r).top_p = 1.5f; },
     "top_p: must be in (0, 1]; got 1.5"},
    {"A9 top_p NaN", [](auto& r) { Sampling(r).top_p = kNaN; },
     "top_p: must be in (0, 1]; got nan"},
    {"A9 top_k", [](auto& r) { Sampling(r).top_k = -2; }, "top_k: must be >= -1; got -2"},
    {"A9 min_p", [](auto& r) { Sampling(r).min_p = -0.5f; }, "min_p: must be in [0, 1]; got -0.5"},
    {"A9 typical_p", [](auto& r) { Sampling(r).typical_p = kNaN; },
     "typical_p: must be in (0, 1]; got nan"},
    {"A9 repetition", [](auto& r) { Sampling(r).repetition_penalty = 0; },
     "repetition_penalty: must be in (0, 2]; got 0"},
    {"A9 presence", [](auto& r) { Sampling(r).presence_penalty = kNaN; },
     "presence_penalty: must be in [-2, 2]; got nan"},
    {"A9 frequency", [](auto& r) { Sampling(r).frequency_penalty = 3; },
     "frequency_penalty: must be in [-2, 2]; got 3"},
    {"A12", [](auto& r) { r.prompt.clear(); }, "prompt_tokens: must be at least one token; got 0"},
    {"A13 ids", [](auto& r) { r.stop_ids.assign(1000000, 1); },
     "stop_token_ids: must be at most 128 ids; got 1000000"},
    {"A13 id", [](auto& r) { r.stop_ids = {49152}; },
     "stop_token_ids[0]: must be < 49152; got 49152"},
    {"A14 id",
     [](auto& r) {
       Sampling(r).logit_bias = {{49152, 1.0f}};
     },
     "logit_bias: must be keyed by ids in [0, 49152); got 49152"},
    {"A14 NaN",
     [](auto& r) {
       Sampling(r).logit_bias = {{5, kNaN}};
     },
     "logit_bias[5]: must be in [-100, 100]; got nan"},
    {"A14 many",
     [](auto& r) {
       Sampling(r).logit_bias.assign(1000000, {1, 1.0f});
     },
     "logit_bias: must be at most 1024 entries; got 1000000"},
    {"A15 low", [](auto& r) { Sampling(r).logprobs = -2; }, "logprobs: must be in [0, 20]; got -2"},
    {"A15 high", [](auto& r) { Sampling(r).logprobs = 21; },
     "logprobs: must be in [0, 20]; got 21"},
    {"A15 ids at the edge", [](auto& r) { Sampling(r).logprob_token_ids.assign(128, 49151); }, ""},
    {"A15 many ids", [](auto& r) { Sampling(r).logprob_token_ids.assign(129, 1); },
     "logprob_token_ids: must be at most 128 ids; got 129"},
    {"A15 id = vocabulary",
     [](auto& r) {
       Sampling(r).logprob_token_ids = {7, 49152};
     },
     "logprob_token_ids[1]: must be < 49152; got 49152"},
    {"A15 negative id", [](auto& r) { Sampling(r).logprob_token_ids = {-1}; },
     "logprob_token_ids[0]: must be >= 0; got -1"},
    {"A15 prompt", [](auto& r) { r.prompt_logprobs = 21; },
     "prompt_logprobs: must be in [0, 20]; got 21"},
    {"A16 none", [](auto& r) { r.sampling.clear(); }, "n: must be in [1, 16]; got 0"},
    {"A16 many", [](auto& r) { r.sampling.resize(17); }, "n: must be in [1, 16]; got 17"},
};

TEST(ValidateRequest, EveryRule) {
  for (const Case& c : kCases) {
    GenerationRequest request = GoodRequest();
    c.change(request);
    const absl::Status status = ValidateRequest(request, TestModel());
    if (std::string(c.message).empty()) {
      EXPECT_TRUE(status.ok()) << c.name << ": " << status;
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.name;
      EXPECT_EQ(status.message(), c.message) << c.name;
    }
  }
}

TEST(ValidateRequest, A15PromptLogprobsOfALongPromptAreBounded) {
  ModelInfo model = TestModel();
  model.max_model_len = 1 << 20;
  model.kv_blocks = 1 << 20;
  GenerationRequest request = GoodRequest();
  request.prompt.assign(100000, 1);
  request.prompt_logprobs = 20;
  EXPECT_EQ(ValidateRequest(request, model).message(),
            "prompt_logprobs: must be at most 16777216 bytes for the whole prompt; got 16800000");
  request.prompt_logprobs = 0;
  request.sampling[0].logprob_token_ids.assign(20, 1);
  EXPECT_EQ(ValidateRequest(request, model).message(),
            "prompt_logprobs: must be at most 16777216 bytes for the whole prompt; got 16800000");
  request.prompt_logprobs = -1;  // ids of the answer alone weigh nothing in the prompt
  EXPECT_TRUE(ValidateRequest(request, model).ok());
}

}  // namespace
}  // namespace pregate
