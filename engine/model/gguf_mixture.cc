#include "engine/model/gguf_mixture.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "engine/model/file_error.h"
#include "engine/model/model_limits.h"

namespace pregate {
namespace {

// What is true of an architecture and stands in no key of most files.
struct Architecture {
  std::string_view name;
  bool renormalizes;
  bool own_ffn_size;  // expert_feed_forward_length; otherwise feed_forward_length is an expert's
  bool shared_expert;
};
constexpr Architecture kArchitectures[] = {
    {"llama", true, false, false},
    {"qwen2moe", false, true, true},
    {"qwen3moe", true, true, false},
    {"olmoe", false, false, false},
};

const Architecture* FindArchitecture(std::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

// Keys of families that say what others take for granted.
void ReadGate(GgufFields& fields, GateParams& gate) {
  gate.k = static_cast<int32_t>(fields.Integer("expert_used_count", 1, kMaxExperts));
  gate.renormalize = fields.OptionalBool("expert_weights_norm").value_or(gate.renormalize);
  gate.scale = static_cast<float>(fields.OptionalFloat("expert_weights_scale").value_or(1.0));
  if (gate.scale == 0.0f) gate.scale = 1.0f;  // as much as absent
  constexpr int64_t kSigmoid = 2;             // 1: softmax
  const auto function = fields.OptionalInteger("expert_gating_func", 1, kSigmoid);
  if (function == kSigmoid) gate.scoring = GateParams::Scoring::kSigmoid;
}

// 7 for "blk.7.ffn_gate_inp.weight", nullopt for every other name.
std::optional<size_t> LayerOfGate(std::string_view name) {
  constexpr std::string_view kBefore = "blk.", kAfter = ".ffn_gate_inp.weight";
  if (!name.starts_with(kBefore) || !name.ends_with(kAfter)) return std::nullopt;
  name.remove_prefix(kBefore.size());
  size_t layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || end + kAfter.size() != name.data() + name.size()) return std::nullopt;
  return layer;
}

}  // namespace

void ReadGgufMixture(const GgufFile& file, GgufFields& fields, ModelConfig& config) {
  const Architecture* architecture = FindArchitecture(config.architecture);
  if (!fields.status().ok()) return;
  const bool always = architecture != nullptr && architecture->name != "llama";
  const int64_t experts =
      fields.OptionalInteger("expert_count", always ? 1 : 0, kMaxExperts).value_or(0);
  if (experts == 0 && !always) return;
  if (experts == 0) {
    return fields.Fail(Malformed(fields.FullKey("expert_count"), "must be given", "no such key"));
  }
  if (architecture == nullptr) {
    return fields.Fail(NotServed(fields.FullKey("expert_count"),
                                 "this architecture is served without experts",
                                 absl::StrCat(experts)));
  }
  MixtureConfig& mixture = config.mixture;
  mixture.num_experts.assign(static_cast<size_t>(config.num_layers), 0);
  for (const GgufTensor& tensor : file.tensors()) {
    if (const auto layer = LayerOfGate(tensor.name); layer && *layer < mixture.num_experts.size()) {
      mixture.num_experts[*layer] = static_cast<int32_t>(experts);
    }
  }
  mixture.gate.renormalize = architecture->renormalizes;
  ReadGate(fields, mixture.gate);
  if (!fields.status().ok()) return;
  config.norms_by_head = config.architecture != "olmoe";
  mixture.expert_ffn_size = config.ffn_size;
  if (architecture->own_ffn_size) {
    // The first converters wrote the width of all experts of a token together.
    const int64_t share = std::max(1, config.ffn_size / mixture.gate.k);
    mixture.expert_ffn_size = static_cast<int32_t>(
        fields.OptionalInteger("expert_feed_forward_length", 1, kMaxFfnSize).value_or(share));
  }
  if (architecture->shared_expert) {
    mixture.shared_ffn_size = static_cast<int32_t>(
        fields.OptionalInteger("expert_shared_feed_forward_length", 0, kMaxFfnSize)
            .value_or(config.ffn_size));
  }
}

absl::Status AddGgufTensor(const GgufTensor& tensor, ModelContents& contents) {
  const std::string_view name = tensor.name;
  constexpr std::string_view kAllExperts = "_exps.weight";  // "blk.3.ffn_up_exps.weight"
  if (!name.ends_with(kAllExperts)) {
    contents.tensors.push_back({std::string(name), tensor.dtype, tensor.shape, tensor.data.data(),
                                static_cast<int64_t>(tensor.data.size())});
    return absl::OkStatus();
  }
  // Compared before anything of that size is made: a few bytes of a file can state many experts.
  const std::vector<int32_t>& stated = contents.config.mixture.num_experts;
  const int64_t experts = stated.empty() ? 0 : *std::max_element(stated.begin(), stated.end());
  if (tensor.shape.size() != 3 || tensor.shape[0] != experts || experts == 0) {
    return DoesNotFit(absl::StrCat("tensor ", absl::CHexEscape(ToAbsl(name))),
                      absl::StrCat("must be of 3 dimensions, the first ", experts),
                      absl::StrCat(tensor.shape.size(), ", the first ", tensor.shape[0]));
  }
  const std::string stem(name.substr(0, name.size() - kAllExperts.size()));
  const int64_t bytes = static_cast<int64_t>(tensor.data.size()) / experts;
  for (int64_t e = 0; e < experts; ++e) {
    contents.tensors.push_back({absl::StrCat(stem, ".", e, ".weight"),
                                tensor.dtype,
                                {tensor.shape[1], tensor.shape[2]},
                                tensor.data.data() + e * bytes,
                                bytes});
  }
  return absl::OkStatus();
}

}  // namespace pregate
