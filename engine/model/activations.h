// The scratch of a forward pass, allocated once for the largest step.
#ifndef PREGATE_ENGINE_MODEL_ACTIVATIONS_H_
#define PREGATE_ENGINE_MODEL_ACTIVATIONS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace pregate {

// All kF32 unless said otherwise. R rows, L logit rows; H, F and heads as in ModelConfig.
struct Activations {
  Tensor hidden;            // [R, H] the residual stream
  Tensor normed;            // [R, H]
  Tensor query, attended;   // [R, num_heads * head_dim]
  Tensor key, value;        // [R, num_kv_heads * head_dim]
  Tensor gate, up;          // [R, F]
  Tensor projected;         // [R, H] what a sublayer adds to the stream
  Tensor rope, local_rope;  // [R, rotated]
  Tensor quantized;         // [R, widest input of a Linear] kQ16Act; narrower ones use a part
  Tensor head_rows;         // [L, H]
  Tensor logits;            // [L, vocab]

  // The same memory, seen as a step of fewer rows. Its owner stays this one.
  Activations Narrow(int64_t rows, int64_t logit_rows) const;
};

struct ActivationMemory {
  Activations all;
  DeviceBuffer buffer;
};

// RESOURCE_EXHAUSTED when the device has no room.
absl::StatusOr<ActivationMemory> AllocateActivations(const ModelConfig& config, Device* device,
                                                     int32_t max_rows, int32_t max_logits);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_ACTIVATIONS_H_
