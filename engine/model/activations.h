// The scratch of a forward pass, allocated once for the largest step.
#ifndef PREGATE_ENGINE_MODEL_ACTIVATIONS_H_
#define PREGATE_ENGINE_MODEL_ACTIVATIONS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/model/ffn_weights.h"
#include "engine/model/model_config.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace pregate {

// All kF32 unless said otherwise. R rows, L logit rows; H, F and heads as in ModelConfig.
struct Activations {
  Tensor hidden;            // [R, H] the residual stream
  Tensor normed;            // [R, H]
  Tensor projected;         // [R, H] what a sublayer adds to the stream
  Tensor rope, local_rope;  // [R, rotated]
  Tensor quantized;         // kQ16Act: all that one call quantises
  Tensor head_rows;         // [L, H]
  Tensor logits;            // [L, vocab]; of ranks but the first [L, their rows of the head]

  // Of attention alone, in the same memory as what is of the FFN alone.
  Tensor query, attended;  // [R, num_heads * head_dim]
  Tensor key, value;       // [R, num_kv_heads * head_dim]

  // Of the FFN alone: neurons of each row, one group of rows after the other, see Ffn. [R,
  // FfnShape::neurons]
  Tensor gate, up;
  // Where rows are sorted by expert; E experts of a row, the shared one included.
  Tensor gathered;  // [R * E, H]
  Tensor mixed;     // [R * E, H] what the experts say

  Tensor gate_logits, shared_logits;    // [R, experts of a layer], [R, 1]
  Tensor expert_ids, expert_weights;    // [R, E] kI32 and kF32: as the gate chose
  Tensor sorted_rows, mixed_positions;  // [R, E] kI32: see RowsByExpert
  Tensor expert_start;                  // [1, experts of a layer + 2] kI32: the same

  // The same memory, seen as a step of fewer rows. Its owner stays this one.
  Activations Narrow(int64_t rows, int64_t logit_rows) const;
};

struct ActivationMemory {
  Activations all;
  DeviceBuffer buffer;
};

// RESOURCE_EXHAUSTED when the device has no room.
absl::StatusOr<ActivationMemory> AllocateActivations(const ModelConfig& config, const FfnShape& ffn,
                                                     Device* device, int32_t max_rows,
                                                     int32_t max_logits);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_ACTIVATIONS_H_
