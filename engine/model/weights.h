// The weights of a decoder: found by name in a model file, checked, and packed into the form that
// the kernels stream.
#ifndef PREGATE_ENGINE_MODEL_WEIGHTS_H_
#define PREGATE_ENGINE_MODEL_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_file.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// y = W x + b.
struct Linear {
  PackedWeight weight;          // [out, in]
  const float* bias = nullptr;  // [out] or null
  DType input = DType::kF32;    // what the kernel wants x to be: kF32, kQ16Act or kQ8Act
};

// One decoder layer. Views without data are parts that the model does not have.
struct LayerWeights {
  ConstTensor attention_norm;  // [1, H]
  Linear query, key, value, attention_output;
  ConstTensor query_norm, key_norm;  // [1, head_dim]
  ConstTensor post_attention_norm;   // [1, H]
  ConstTensor ffn_norm;              // [1, H]
  Linear gate, up, down;
  ConstTensor post_ffn_norm;  // [1, H]
};

struct Weights {
  PackedWeight embedding;  // [vocab, H]
  std::vector<LayerWeights> layers;
  ConstTensor output_norm;  // [1, H]
  Linear head;              // [vocab, H]: the embedding again when the two are tied

  std::vector<DeviceBuffer> owned;  // vectors, in float, and the packed matrices
  int64_t step_bytes = 0;           // bytes that one step reads (the embedding's rows not counted)
  int64_t parameters = 0;           // tied ones counted once
};

// FAILED_PRECONDITION names a missing or misshapen tensor; UNIMPLEMENTED a tensor whose type
// `kernels` cannot multiply; RESOURCE_EXHAUSTED: no room on the device. `activations`: the input of
// every Linear that can multiply integers. `progress`, if set, is called with the share of the
// bytes that is packed.
absl::StatusOr<Weights> LoadWeights(const ModelFile& file, Device* device, const Kernels& kernels,
                                    DType activations, const std::function<void(double)>& progress);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_WEIGHTS_H_
