// Mixtures of experts in a GGUF file.
#ifndef PREGATE_ENGINE_MODEL_GGUF_MIXTURE_H_
#define PREGATE_ENGINE_MODEL_GGUF_MIXTURE_H_

#include "absl/status/status.h"
#include "engine/model/gguf.h"
#include "engine/model/gguf_fields.h"
#include "engine/model/model_config.h"
#include "engine/model/model_contents.h"

namespace pregate {

// Fills `config.mixture` from the keys expert_*, where the file states experts or the architecture
// has them; a layer without a gate is dense. config.num_layers and ffn_size are known.
// INVALID_ARGUMENT or UNIMPLEMENTED, kept in `fields`, names the key.
void ReadGgufMixture(const GgufFile& file, GgufFields& fields, ModelConfig& config);

// Adds a tensor under its canonical name; one that holds all experts of a layer as its experts.
// FAILED_PRECONDITION when the configuration has not so many.
absl::Status AddGgufTensor(const GgufTensor& tensor, ModelContents& contents);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_GGUF_MIXTURE_H_
