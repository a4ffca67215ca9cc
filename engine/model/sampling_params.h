// How one sequence's next token is chosen. Plain data, already validated.
#ifndef PREGATE_ENGINE_MODEL_SAMPLING_PARAMS_H_
#define PREGATE_ENGINE_MODEL_SAMPLING_PARAMS_H_

#include <cstdint>
#include <utility>
#include <vector>

namespace pregate {

struct SamplingParams {
  float temperature = 1.0f;            // 0: greedy; [0, 2]
  int32_t top_k = 0;                   // 0: all
  float top_p = 1.0f;                  // (0, 1]
  float min_p = 0.0f;                  // [0, 1]
  float typical_p = 1.0f;              // (0, 1]
  float repetition_penalty = 1.0f;     // (0, 2]; over prompt and answer, as in CTRL (1909.05858)
  float presence_penalty = 0.0f;       // [-2, 2]; over the answer
  float frequency_penalty = 0.0f;      // [-2, 2]; over the answer
  uint64_t seed = 0;                   // with the position it gives the random number: no state
  int32_t min_tokens = 0;              // `stop_ids` are not sampled before this many tokens
  std::vector<int32_t> stop_ids = {};  // ids held back while min_tokens is not reached
  std::vector<std::pair<int32_t, float>> logit_bias = {};  // (id, added to its logit)
  int32_t logprobs = -1;  // -1: none; k: of the chosen token and of the k likeliest, 0...20
  std::vector<int32_t> logprob_token_ids = {};  // and of these; not empty: in any case

  bool wants_logprobs() const { return logprobs >= 0 || !logprob_token_ids.empty(); }
};

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0.0f;
};

// Log-probabilities at one position, under the model's own distribution (before temperature,
// penalties and bias), `top` likeliest first.
struct PositionLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;
  std::vector<TokenLogprob> wanted;  // of SamplingParams::logprob_token_ids, in their order
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_SAMPLING_PARAMS_H_
