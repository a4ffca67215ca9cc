// Sampler: logits to token ids. It keeps what each sequence slot needs (parameters, penalty counts)
// and never looks at a request.
#ifndef PREGATE_ENGINE_MODEL_SAMPLER_H_
#define PREGATE_ENGINE_MODEL_SAMPLER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "engine/model/device_logits.h"
#include "engine/model/sampling_params.h"
#include "engine/plan/batch_plan.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/tensor.h"

namespace pregate {

// One entry for each logit row of the plan, in its order.
struct SampledTokens {
  // [logits] sampled id, the target of a scored row, or kNotSampled.
  std::vector<int32_t> token_ids;
  std::vector<std::optional<PositionLogprobs>> logprobs;  // [logits] where asked for
};

class Sampler {
 public:
  // Tokens are below `vocab_size`; rows of logits may be longer (padding of the embedding table).
  // The table is that of the device; it serves where the host cannot read the device's memory.
  Sampler(Device* device, const Kernels* kernels, int32_t vocab_size, int32_t max_num_seqs);
  ~Sampler();

  // Binds a slot to a sequence, whatever it held before; `prompt` feeds the repetition penalty.
  // `generated` is not empty when the sequence comes back after a preemption: tokens of its answer
  // that stand.
  void Open(int32_t slot, const SamplingParams& params, absl::Span<const int32_t> prompt,
            absl::Span<const int32_t> generated);
  void Close(int32_t slot);

  // One token for each logit row of `plan`. logits [logits, vocab] kF32, overwritten. A slot's
  // token depends on its own logits, parameters, history and position only. Logits that the host
  // cannot read stay where they are: the likeliest tokens of each row are fetched, and whole those
  // rows of which they do not tell the token (see DrawFromLikeliest).
  //
  // Where a slot has several sampled rows, those after the first compute drafted tokens. A row
  // counts only if the row before it has sampled this row's very token; so the tokens that count
  // are those that one row at a time would have sampled (2211.17192 verifies by distribution; with
  // random numbers fixed by position equality is enough).
  SampledTokens Sample(const BatchPlan& plan, Tensor logits);

 private:
  struct Slot;
  struct Outcome;
  // One row: `target` is the token to score, or -1 to sample the token of `position`.
  static Outcome Choose(const Slot& slot, int32_t target, int32_t position,
                        absl::Span<float> logits);
  static size_t EndOfRun(const BatchPlan& plan, size_t k);
  void SampleRun(const BatchPlan& plan, size_t begin, size_t end, Tensor logits,
                 SampledTokens* sampled);
  void FetchRows(const BatchPlan& plan, ConstTensor logits);
  void DecideByLikeliest(const BatchPlan& plan, absl::Span<const size_t> rows, ConstTensor logits);

  Device* device_;
  int32_t vocab_size_;
  std::vector<Slot> slots_;

  // Where the host cannot read logits; else they stay empty.
  std::optional<DeviceLogits> device_logits_;
  std::vector<int32_t> decided_;  // [logits] tokens of rows that need not come whole; kNotSampled
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_SAMPLER_H_
