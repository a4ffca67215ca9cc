// config.json of a Hugging Face folder.
#ifndef PREGATE_ENGINE_MODEL_HF_CONFIG_H_
#define PREGATE_ENGINE_MODEL_HF_CONFIG_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"

namespace pregate {

// Reads the files that transformers 4 and 5 write (rope_scaling or rope_parameters, sliding windows
// by number or by layer_types). INVALID_ARGUMENT names the broken member, UNIMPLEMENTED what is not
// served.
absl::StatusOr<ModelConfig> ReadHuggingFaceConfig(std::string_view config_json);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_HF_CONFIG_H_
