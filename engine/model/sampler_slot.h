// What the sampler keeps of a sequence: its parameters, and how they change which logits.
#ifndef PREGATE_ENGINE_MODEL_SAMPLER_SLOT_H_
#define PREGATE_ENGINE_MODEL_SAMPLER_SLOT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "engine/model/sampling_params.h"
#include "kernels/kernels.h"

namespace pregate {

class SamplerSlot {
 public:
  SamplerSlot() = default;
  // See Sampler::Open.
  SamplerSlot(const SamplingParams& params, absl::Span<const int32_t> prompt,
              absl::Span<const int32_t> generated);

  const SamplingParams& params() const { return params_; }
  // The likeliest token is taken.
  bool is_greedy() const;

  // The answer has one token more, or is again what it was before its last one.
  void Generate(int32_t id);
  void Forget(int32_t id);

  // body(edit) for each logit that is not left as it is, no id twice; the edit's row is 0. In the
  // order that users of vLLM know: bias, min_tokens, penalties.
  template <typename Body>
  void ForEachEdit(const Body& body) const {
    const LogitEdit nothing;
    for (const Token& token : tokens_) {
      const LogitEdit edit = EditOf(token);
      if (edit.bias != nothing.bias || edit.repetition != nothing.repetition ||
          edit.penalty != nothing.penalty) {
        body(edit);
      }
    }
  }

 private:
  struct Token {
    int32_t id;
    float bias = 0.0f;
    bool stops = false;      // and so waits for min_tokens
    bool in_prompt = false;  // these two where there are penalties
    int32_t count = 0;       // in the answer
  };
  bool HasPenalties() const;
  Token& At(int32_t id);
  LogitEdit EditOf(const Token& token) const;

  SamplingParams params_;
  int32_t generated_ = 0;
  std::vector<Token> tokens_;  // whose logits may change, in no order that matters
  absl::flat_hash_map<int32_t, size_t> index_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_SAMPLER_SLOT_H_
