#include "engine/model/hf_names.h"

#include <algorithm>

#include "engine/model/file_error.h"
#include "engine/model/hf_encoder.h"

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
    {"mlp.gate", "ffn_gate_inp"},
    {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
    {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
    {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
    {"block_sparse_moe.gate", "ffn_gate_inp"},
};

// A matrix of one expert.
constexpr Name kExpert[] = {
    {"gate_proj", "ffn_gate"}, {"up_proj", "ffn_up"}, {"down_proj", "ffn_down"},
    {"w1", "ffn_gate"},        {"w3", "ffn_up"},      {"w2", "ffn_down"},
};
constexpr std::string_view kExpertPrefixes[] = {"mlp.experts.", "block_sparse_moe.experts."};

// Parts of models that do more than text.
constexpr std::string_view kOtherParts[] = {"vision_tower.", "multi_modal_projector.",
                                            "model.vision_tower.", "model.multi_modal_projector."};

// Scales for activations, and for keys and values, that are rounded to 8 bits: here neither is by a
// scale of the file.
constexpr std::string_view kRanges[] = {".input_scale", ".output_scale", ".k_scale", ".v_scale"};

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

// "12.rest" as "12" and "rest"; nullopt when no number of one to four digits, spelled as usual,
// stands in front.
struct Numbered {
  std::string_view number;
  std::string_view rest;
};
std::optional<Numbered> SplitNumber(std::string_view name) {
  const size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos || dot > 4) return std::nullopt;
  const std::string_view number = name.substr(0, dot);
  if (dot > 1 && number.front() == '0') return std::nullopt;
  if (!std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return std::nullopt;
  }
  return Numbered{number, name.substr(dot + 1)};
}

// "7.up_proj" of the experts.
std::optional<std::string> ExpertTensor(std::string_view name) {
  const std::optional<Numbered> expert = SplitNumber(name);
  if (!expert) return std::nullopt;
  const std::optional<std::string_view> ours = Translate(kExpert, expert->rest);
  if (!ours) return std::nullopt;
  return absl::StrCat(ToAbsl(*ours), ".", ToAbsl(expert->number));
}

// "layers.12.mlp.up_proj" without "layers.".
std::optional<std::string> LayerTensor(std::string_view name, std::string_view architecture) {
  const std::optional<Numbered> layer = SplitNumber(name);
  if (!layer) return std::nullopt;
  std::string_view part = layer->rest;
  if (part == "self_attn.rotary_emb") return "";
  std::optional<std::string> ours;
  if (part == "post_attention_layernorm") {
    ours = architecture == "gemma3" ? "post_attention_norm" : "ffn_norm";
  } else if (std::any_of(std::begin(kExpertPrefixes), std::end(kExpertPrefixes),
                         [&](std::string_view p) { return ConsumePrefix(part, p); })) {
    ours = ExpertTensor(part);
  } else if (const auto whole = Translate(kLayer, part)) {
    ours = std::string(*whole);
  }
  if (!ours) return std::nullopt;
  return absl::StrCat("blk.", ToAbsl(layer->number), ".", *ours);
}

}  // namespace

std::optional<std::string> CanonicalTensorName(std::string_view name,
                                               std::string_view architecture) {
  if (architecture == "bert") return EncoderTensorName(name);
  for (const std::string_view part : kOtherParts) {
    if (ConsumePrefix(name, part)) return "";
  }
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  std::string_view stem = name.substr(0, dot);
  const std::string_view kind = name.substr(dot);  // ".weight", ".bias", ".inv_freq"
  if (std::find(std::begin(kRanges), std::end(kRanges), kind) != std::end(kRanges)) return "";
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
  if (kind == ".weight_scale" || kind == ".weight_scale_inv") {
    return absl::StrCat(*ours, ".weight_scale");
  }
  if (kind != ".weight" && kind != ".bias") return std::nullopt;
  return absl::StrCat(*ours, ToAbsl(kind));
}

}  // namespace pregate
