// Mixtures of experts in a Hugging Face config.json.
#ifndef PREGATE_ENGINE_MODEL_HF_MIXTURE_H_
#define PREGATE_ENGINE_MODEL_HF_MIXTURE_H_

#include "engine/model/json_fields.h"
#include "engine/model/model_config.h"

namespace pregate {

// Fills `config.mixture` for the architectures that have gates in their layers ("mixtral",
// "qwen2moe", "qwen3moe", "olmoe") and does nothing for the others; config.num_layers and ffn_size
// are known. INVALID_ARGUMENT or UNIMPLEMENTED, kept in `fields`, names the member.
void ReadHuggingFaceMixture(JsonFields& fields, ModelConfig& config);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_HF_MIXTURE_H_
