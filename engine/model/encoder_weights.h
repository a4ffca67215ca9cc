// The weights of an encoder, found by name in a model file and packed for the kernels.
#ifndef PREGATE_ENGINE_MODEL_ENCODER_WEIGHTS_H_
#define PREGATE_ENGINE_MODEL_ENCODER_WEIGHTS_H_

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/linear.h"
#include "engine/model/model_file.h"
#include "engine/model/weight_loader.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

struct LayerNormWeights {
  ConstTensor weight, bias;  // [1, H]
};

struct EncoderLayer {
  Linear query, key, value, attention_output;  // [H, H]
  LayerNormWeights attention_norm;
  Linear up, down;  // [F, H], [H, F]
  LayerNormWeights output_norm;
};

struct EncoderWeights {
  PackedWeight tokens, positions, token_types;  // tables [rows, H]
  LayerNormWeights embedding_norm;
  std::vector<EncoderLayer> layers;
  Linear head, score;  // [H, H], [1, H]: of a cross-encoder
  LoadedMemory memory;
};

struct EncoderWeightOptions {
  // What becomes of matrices of floats in the layers; kF32: they stay as the file has them.
  DType matrices = DType::kF32;
  DType activations = DType::kF32;       // the input of every Linear that can multiply integers
  std::function<void(double)> progress;  // share that is packed; may be empty
};

// Errors as LoadWeights.
absl::StatusOr<EncoderWeights> LoadEncoderWeights(const ModelFile& file, Device* device,
                                                  const Kernels& kernels,
                                                  const EncoderWeightOptions& options);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_ENCODER_WEIGHTS_H_
