#include "engine/model/hf_mixture.h"

#include <string_view>

#include "engine/model/file_error.h"
#include "engine/model/model_limits.h"

namespace pregate {
namespace {

// Where a family says what. An empty name: the family has no such member.
struct Family {
  std::string_view architecture;
  std::string_view ffn_size;         // of a routed expert
  std::string_view shared_ffn_size;  // "": no shared expert
  bool has_dense_layers;             // decoder_sparse_step and mlp_only_layers
  bool always_renormalizes;          // or as norm_topk_prob says
};
constexpr Family kFamilies[] = {
    {"mixtral", "intermediate_size", "", false, true},
    {"qwen2moe", "moe_intermediate_size", "shared_expert_intermediate_size", true, false},
    {"qwen3moe", "moe_intermediate_size", "", true, false},
    {"olmoe", "intermediate_size", "", false, false},
};

const Family* FindFamily(std::string_view architecture) {
  for (const Family& family : kFamilies) {
    if (family.architecture == architecture) return &family;
  }
  return nullptr;
}

// The first step - 1 of every `decoder_sparse_step` layers are dense, and those of a list.
void ReadDenseLayers(JsonFields& fields, std::vector<int32_t>& num_experts) {
  const auto layers = static_cast<int64_t>(num_experts.size());
  const int64_t step = fields.OptionalInteger("decoder_sparse_step", 1, kMaxLayers).value_or(1);
  for (int64_t layer = 0; layer < layers; ++layer) {
    if ((layer + 1) % step != 0) num_experts[static_cast<size_t>(layer)] = 0;
  }
  const nlohmann::json* dense = fields.Find("mlp_only_layers");
  if (dense == nullptr) return;
  const std::string name = fields.FullName("mlp_only_layers");
  if (!dense->is_array()) {
    return fields.Fail(Malformed(name, "must be an array", dense->type_name()));
  }
  for (const nlohmann::json& layer : *dense) {
    if (!layer.is_number_unsigned() || layer.get<uint64_t>() >= num_experts.size()) {
      return fields.Fail(Malformed(name, absl::StrCat("entries must be in [0, ", layers - 1, "]"),
                                   Quoted(layer.dump())));
    }
    num_experts[layer.get<size_t>()] = 0;
  }
}

}  // namespace

void ReadHuggingFaceMixture(JsonFields& fields, ModelConfig& config) {
  const Family* family = FindFamily(config.architecture);
  if (family == nullptr || !fields.status().ok()) return;
  // Both names are in use for all of the families.
  const std::string_view count =
      fields.Find("num_local_experts") != nullptr ? "num_local_experts" : "num_experts";
  const auto experts = static_cast<int32_t>(fields.Integer(count, 1, kMaxExperts));
  MixtureConfig& mixture = config.mixture;
  mixture.num_experts.assign(static_cast<size_t>(config.num_layers), experts);
  mixture.gate.k = static_cast<int32_t>(fields.Integer("num_experts_per_tok", 1, kMaxExperts));
  mixture.gate.renormalize =
      family->always_renormalizes || fields.OptionalBool("norm_topk_prob").value_or(false);
  mixture.expert_ffn_size = static_cast<int32_t>(fields.Integer(family->ffn_size, 1, kMaxFfnSize));
  if (!family->shared_ffn_size.empty()) {
    mixture.shared_ffn_size =
        static_cast<int32_t>(fields.Integer(family->shared_ffn_size, 0, kMaxFfnSize));
  }
  if (family->has_dense_layers) ReadDenseLayers(fields, mixture.num_experts);
}

}  // namespace pregate
