// Tensor names of Hugging Face checkpoints in the words of ModelFile.
#ifndef PREGATE_ENGINE_MODEL_HF_NAMES_H_
#define PREGATE_ENGINE_MODEL_HF_NAMES_H_

#include <optional>
#include <string>
#include <string_view>

namespace pregate {

// The canonical name of a tensor of `architecture`; "" for tensors that a text model does not need
// (an image tower, stored rotary frequencies); nullopt for a name that is not known.
std::optional<std::string> CanonicalTensorName(std::string_view name,
                                               std::string_view architecture);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_HF_NAMES_H_
