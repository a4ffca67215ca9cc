// The arrays of a batch plan that kernels read, in device memory.
#ifndef PREGATE_ENGINE_MODEL_STEP_INPUTS_H_
#define PREGATE_ENGINE_MODEL_STEP_INPUTS_H_

#include <cstdint>
#include <vector>

#include "engine/plan/batch_plan.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// Packs the arrays and copies them in one go. The pointers stay valid until the next Load; they are
// the same for plans of as many rows, sequences and logits, until the memory has to grow.
class StepInputs {
 public:
  explicit StepInputs(Device* device) : device_(device) {}

  void Load(const BatchPlan& plan);

  const int32_t* token_ids() const { return token_ids_; }
  const int32_t* positions() const { return positions_; }
  const int32_t* kv_slots() const { return kv_slots_; }
  const int32_t* logit_rows() const { return logit_rows_; }
  const AttentionBatch& attention() const { return attention_; }

 private:
  Device* device_;
  std::vector<int32_t> staging_;
  DeviceBuffer memory_;
  const int32_t* token_ids_ = nullptr;
  const int32_t* positions_ = nullptr;
  const int32_t* kv_slots_ = nullptr;
  const int32_t* logit_rows_ = nullptr;
  AttentionBatch attention_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_STEP_INPUTS_H_
