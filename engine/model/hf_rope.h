// The rotary embedding of a Hugging Face config.json.
#ifndef PREGATE_ENGINE_MODEL_HF_ROPE_H_
#define PREGATE_ENGINE_MODEL_HF_ROPE_H_

#include "engine/model/json_fields.h"
#include "engine/model/model_config.h"

namespace pregate {

// Fills the rotary members of `config`, whose sizes and layers are known. `default_theta` is what
// the family takes when the file is silent; errors go to `fields`.
void ReadHuggingFaceRope(JsonFields& fields, double default_theta, ModelConfig& config);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_HF_ROPE_H_
