// Sampler: logits to token ids. It keeps what each sequence slot needs (parameters, penalty counts)
// and never looks at a request.
#ifndef PREGATE_ENGINE_MODEL_SAMPLER_H_
#define PREGATE_ENGINE_MODEL_SAMPLER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "engine/model/device_logits.h"
#include "engine/model/sampler_slot.h"
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
  // cannot read stay where they are, and the device draws, to the same tokens; whole come those
  // rows alone for which it cannot (typical_p, top_k above kMaxLikeliest).
  //
  // Where a slot has several sampled rows, those after the first compute drafted tokens. A row
  // counts only if the row before it has sampled this row's very token; so the tokens that count
  // are those that one row at a time would have sampled (2211.17192 verifies by distribution; with
  // random numbers fixed by position equality is enough).
  SampledTokens Sample(const BatchPlan& plan, Tensor logits);

 private:
  // A logit row of a step, and where its answers stand among those of the device.
  struct RowView;
  struct Outcome;

  static size_t EndOfRun(const BatchPlan& plan, size_t k);
  void AskDevice(const BatchPlan& plan, Tensor logits);
  void AskOfRow(const SamplerSlot& slot, RowView* row);
  void SampleRun(const BatchPlan& plan, size_t begin, size_t end, Tensor logits,
                 SampledTokens* sampled);
  Outcome ChooseHere(const SamplerSlot& slot, const RowView& row, absl::Span<float> logits) const;
  Outcome ReadAnswer(const SamplerSlot& slot, const RowView& row);

  Device* device_;
  int32_t vocab_size_;
  std::vector<SamplerSlot> slots_;
  std::vector<RowView> rows_;  // of a step

  // Where the host cannot read logits; else they stay empty.
  std::optional<DeviceLogits> device_logits_;
  DeviceLogits::Questions questions_;
  bool answered_ = false;  // the questions: else rows have come whole
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_SAMPLER_H_
