// The weights of a decoder: found by name in a model file, checked, and packed into the form that
// the kernels stream.
#ifndef PREGATE_ENGINE_MODEL_WEIGHTS_H_
#define PREGATE_ENGINE_MODEL_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/ffn_weights.h"
#include "engine/model/linear.h"
#include "engine/model/model_file.h"
#include "engine/model/weight_loader.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// One decoder layer. Views without data are parts that the model does not have.
struct LayerWeights {
  ConstTensor attention_norm;  // [1, H]
  Linear query, key, value, attention_output;
  ConstTensor query_norm, key_norm;  // [1, head_dim], or [1, all heads]
  ConstTensor post_attention_norm;   // [1, H]
  ConstTensor ffn_norm;              // [1, H]
  FfnWeights ffn;
  ConstTensor post_ffn_norm;  // [1, H]
};

struct Weights {
  PackedWeight embedding;  // [vocab, H]
  std::vector<LayerWeights> layers;
  ConstTensor output_norm;  // [1, H]
  // [vocab, H]: the embedding again when the two are tied; or a rank's rows of it.
  Linear head;

  LoadedMemory memory;  // tied parameters are counted once
  FfnShape ffn_shape;   // the largest FFN
  // Of tied experts that come and go: the experts that need each unit.
  std::vector<uint64_t> tile_units;
  // What of it belongs to experts among which a gate or a router chooses, for each layer that has
  // them.
  struct Routed {
    int64_t bytes = 0;
    int64_t parameters = 0;
    double share = 0;  // of it that a row meets
  };
  std::vector<Routed> routed;
};

struct WeightOptions {
  DType activations = DType::kQ16Act;  // the input of every Linear that can multiply integers
  std::optional<DType> quantization = std::nullopt;  // of matrices of floats; none: as they are
  ExpertStorage expert_storage = ExpertStorage::kAuto;
  ExpertMemory expert_memory;            // of a Read-ME model
  std::function<void(double)> progress;  // share of the bytes that is packed; may be empty
};

// FAILED_PRECONDITION names a missing or misshapen tensor; UNIMPLEMENTED a tensor whose type
// `kernels` cannot multiply; RESOURCE_EXHAUSTED: no room on the device, or on the disk of experts
// that do not fit; INVALID_ARGUMENT: memory for too few of them, or a file that is quantised
// otherwise.
absl::StatusOr<Weights> LoadWeights(const ModelFile& file, Device* device, const Kernels& kernels,
                                    const WeightOptions& options);
}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_WEIGHTS_H_
