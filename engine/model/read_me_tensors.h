// The tensors that a Read-ME checkpoint has beyond those of a dense model: the router's, and
// experts either as masks over the neurons of the dense FFN or as matrices of their own (all of an
// expert's neurons, or those beyond a residual that all experts share).
#ifndef PREGATE_ENGINE_MODEL_READ_ME_TENSORS_H_
#define PREGATE_ENGINE_MODEL_READ_ME_TENSORS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/model/model_config.h"
#include "engine/model/model_file.h"
#include "engine/model/safetensors.h"

namespace pregate {

// The canonical name of a tensor of a Read-ME checkpoint, see ModelFile::tensors: that of
// "model.layers.3.moe.up_proj_2.weight" is "blk.3.ffn_up.2.weight", that of
// "model.layers.3.moe.up_proj_residual.weight" "blk.3.ffn_up.residual.weight"; those of the router
// stay. nullopt for any other tensor.
std::optional<std::string> ReadMeTensorName(std::string_view name);

// Whether ReadMeTensorName gives this name.
bool IsReadMeTensor(std::string_view canonical_name);

// The layer of "model.layers.3.mlp.expert_masks"; nullopt for any other tensor.
std::optional<int64_t> ExpertMaskLayer(std::string_view name);

// Reads the masks of one layer, U8 [experts, ceil(F / 8)]: bit f % 8 of byte f / 8 says whether the
// expert owns neuron f. Errors name the tensor.
absl::Status ReadExpertMasks(const SafetensorsTensor& tensor, const ModelConfig& config,
                             int64_t layer, NeuronOwners* owners);

// The router's tensors are there, all of them and with the shapes that the configuration says, and
// every layer has experts: masks (`owners`) if it says so, or else matrices that fit together. No
// other Read-ME tensor is there. FAILED_PRECONDITION names the tensor.
absl::Status CheckReadMe(const ModelConfig& config, absl::Span<const TensorInfo> tensors,
                         const NeuronOwners& owners);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_READ_ME_TENSORS_H_
