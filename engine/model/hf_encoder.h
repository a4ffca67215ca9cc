// Encoders in Hugging Face folders: their part of config.json, what sentence-transformers writes
// beside it, and their tensors' names.
#ifndef PREGATE_ENGINE_MODEL_HF_ENCODER_H_
#define PREGATE_ENGINE_MODEL_HF_ENCODER_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "engine/model/json_fields.h"
#include "engine/model/model_config.h"

namespace pregate {

bool IsEncoderType(std::string_view model_type);

// config.json of such a type. Errors as ReadHuggingFaceConfig; they are in `fields`.
ModelConfig ReadHuggingFaceEncoder(JsonFields& fields, std::string_view model_type);

// modules.json, the pooling that it names and sentence_bert_config.json, as far as they are there.
// UNIMPLEMENTED names a module or a pooling that is not served.
absl::Status ReadSentenceFiles(const std::string& folder, ModelConfig& config);

// As CanonicalTensorName.
std::optional<std::string> EncoderTensorName(std::string_view name);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_HF_ENCODER_H_
