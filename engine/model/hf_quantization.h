// quantization_config of a config.json.
#ifndef PREGATE_ENGINE_MODEL_HF_QUANTIZATION_H_
#define PREGATE_ENGINE_MODEL_HF_QUANTIZATION_H_

#include "absl/status/status.h"
#include "engine/model/json_fields.h"

namespace pregate {

// Weights are 8-bit floats (E4M3) with a scale for each tensor, row, or 128 x 128 elements: "fp8",
// "fbgemm_fp8", or "compressed-tensors" in the format "float-quantized". What the tensors' own
// types and shapes say is checked with them. UNIMPLEMENTED names another method; what is said of
// activations is no concern of ours, they keep more than 8 bits.
absl::Status CheckHuggingFaceQuantization(JsonFields fields);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_HF_QUANTIZATION_H_
