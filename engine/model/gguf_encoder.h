// Encoders in GGUF files: architecture "bert", as which RoBERTa and XLM-R are stored too.
#ifndef PREGATE_ENGINE_MODEL_GGUF_ENCODER_H_
#define PREGATE_ENGINE_MODEL_GGUF_ENCODER_H_

#include "absl/status/statusor.h"
#include "engine/model/gguf.h"
#include "engine/model/model_config.h"

namespace pregate {

// The configuration of a file of that architecture. Errors as ModelFile::Open.
absl::StatusOr<ModelConfig> ReadGgufEncoder(const GgufFile& file, size_t num_tokens);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_GGUF_ENCODER_H_
