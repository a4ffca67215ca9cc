#include "engine/model/hf_names.h"

#include <algorithm>

#include "engine/model/file_error.h"

namespace pregate {
namespace {

struct Name {
  std::string_view theirs;
  std::string_view ours;
};

constexpr Name kGlobal[] = {
    {"embed_tokens", "token_embd"},
    {"norm", "output_norm"},
};

// Where a layer's second norm stands is the one difference between the families: before the FFN in
// most, after attention in Gemma 3, which has four.
constexpr Name kLayer[] = {
    {"input_layernorm", "attn_norm"},
    {"ln1", "attn_norm"},  // the first Yi checkpoints
    {"ln2", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
};

// Parts of models that do more than text.
constexpr std::string_view kOtherParts[] = {"vision_tower.", "multi_modal_projector.",
                                            "model.vision_tower.", "model.multi_modal_projector."};

// Prefixes of the decoder, the longest first.
constexpr std::string_view kDecoderPrefixes[] = {"model.language_model.", "language_model.model.",
                                                 "model."};

bool ConsumePrefix(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

template <size_t N>
std::optional<std::string_view> Translate(const Name (&table)[N], std::string_view theirs) {
  for (const Name& name : table) {
    if (name.theirs == theirs) return name.ours;
  }
  return std::nullopt;
}

// "layers.12.mlp.up_proj" without "layers.".
std::optional<std::string> LayerTensor(std::string_view name, std::string_view architecture) {
  const size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos || dot > 4) return std::nullopt;
  const std::string_view layer = name.substr(0, dot);
  if (!std::all_of(layer.begin(), layer.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return std::nullopt;
  }
  const std::string_view part = name.substr(dot + 1);
  if (part == "self_attn.rotary_emb") return "";
  std::optional<std::string_view> ours = Translate(kLayer, part);
  if (part == "post_attention_layernorm") {
    ours = architecture == "gemma3" ? "post_attention_norm" : "ffn_norm";
  }
  if (!ours) return std::nullopt;
  return absl::StrCat("blk.", ToAbsl(layer), ".", ToAbsl(*ours));
}

}  // namespace

std::optional<std::string> CanonicalTensorName(std::string_view name,
                                               std::string_view architecture) {
  for (const std::string_view part : kOtherParts) {
    if (ConsumePrefix(name, part)) return "";
  }
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  std::string_view stem = name.substr(0, dot);
  const std::string_view kind = name.substr(dot);  // ".weight", ".bias", ".inv_freq"
  std::optional<std::string> ours;
  if (stem == "lm_head" || stem == "language_model.lm_head") {
    ours = "output";
  } else {
    const bool decoder = std::any_of(std::begin(kDecoderPrefixes), std::end(kDecoderPrefixes),
                                     [&](std::string_view p) { return ConsumePrefix(stem, p); });
    if (!decoder) return std::nullopt;
    if (ConsumePrefix(stem, "layers.")) {
      ours = LayerTensor(stem, architecture);
    } else if (const auto global = Translate(kGlobal, stem)) {
      ours = std::string(*global);
    }
  }
  if (!ours || ours->empty()) return ours;
  if (kind != ".weight" && kind != ".bias") return std::nullopt;
  return absl::StrCat(*ours, ToAbsl(kind));
}

}  // namespace pregate
