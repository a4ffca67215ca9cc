#include "engine/model/hf_config.h"

#include <cmath>
#include <string>

#include "engine/model/file_error.h"
#include "engine/model/hf_encoder.h"
#include "engine/model/hf_mixture.h"
#include "engine/model/hf_quantization.h"
#include "engine/model/hf_rope.h"
#include "engine/model/json_fields.h"
#include "engine/model/model_limits.h"

namespace pregate {
namespace {

// What a family's configuration class takes where the file is silent.
struct Family {
  std::string_view model_type;
  std::string_view architecture;
  bool tied_embeddings = false;
  double rope_theta = 1e4;
  int32_t head_dim = 0;  // 0: hidden_size / heads
  double rms_norm_eps = 1e-6;
};
constexpr Family kFamilies[] = {
    {"llama", "llama"},
    {"mistral", "mistral"},
    {"Yi", "yi", false, 5e6},
    {"qwen2", "qwen2"},
    {"qwen3", "qwen3", false, 1e4, 128},
    {"gemma3_text", "gemma3", true, 1e6, 256},
    {"mixtral", "mixtral", false, 1e6, 0, 1e-5},
    {"aquilamoe", "mixtral", false, 1e6, 0, 1e-5},  // 2408.06567: biases as the tensors have them
    {"qwen2_moe", "qwen2moe"},
    {"qwen3_moe", "qwen3moe"},
    {"olmoe", "olmoe", false, 1e4, 0, 1e-5},
};

const Family* FindFamily(std::string_view model_type) {
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) return &family;
  }
  return nullptr;
}

void ReadSizes(JsonFields& fields, const Family& family, ModelConfig& config) {
  config.num_layers = fields.Integer("num_hidden_layers", 1, kMaxLayers);
  config.hidden_size = fields.Integer("hidden_size", 1, kMaxHiddenSize);
  config.ffn_size = fields.Integer("intermediate_size", 1, kMaxFfnSize);
  config.vocab_size = fields.Integer("vocab_size", 1, kMaxVocab);
  config.context_length = fields.Integer("max_position_embeddings", 1, kMaxContext);
  config.num_heads = fields.Integer("num_attention_heads", 1, kMaxHeads);
  config.num_kv_heads = static_cast<int32_t>(
      fields.OptionalInteger("num_key_value_heads", 1, kMaxHeads).value_or(config.num_heads));
  config.rms_norm_eps =
      static_cast<float>(fields.OptionalFloat("rms_norm_eps").value_or(family.rms_norm_eps));
  config.tied_embeddings =
      fields.OptionalBool("tie_word_embeddings").value_or(family.tied_embeddings);
  if (!fields.status().ok()) return;  // the sizes below may be zero
  const auto head_dim = fields.OptionalInteger("head_dim", 1, kMaxHeadDim);
  if (!head_dim && family.head_dim == 0 && config.hidden_size % config.num_heads != 0) {
    fields.Fail(Malformed(fields.FullName("num_attention_heads"),
                          absl::StrCat("must divide hidden_size ", config.hidden_size),
                          absl::StrCat(config.num_heads)));
  }
  const int32_t by_family =
      family.head_dim != 0 ? family.head_dim : config.hidden_size / config.num_heads;
  config.head_dim = static_cast<int32_t>(head_dim.value_or(by_family));
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
}

void ReadActivation(JsonFields& fields, ModelConfig& config) {
  const bool gemma = config.architecture == "gemma3";
  const std::string_view member = gemma ? "hidden_activation" : "hidden_act";
  const std::string name =
      fields.OptionalString(member).value_or(gemma ? "gelu_pytorch_tanh" : "silu");
  if (name == "silu" || name == "swish") {
    config.activation = Activation::kSilu;
  } else if (name == "gelu_pytorch_tanh") {
    config.activation = Activation::kGeluTanh;
  } else {
    fields.Fail(
        NotServed(fields.FullName(member), "must be 'silu' or 'gelu_pytorch_tanh'", Quoted(name)));
  }
}

// One of "full_attention" and "sliding_attention" for each layer.
void ReadLayerTypes(JsonFields& fields, const nlohmann::json& types, ModelConfig& config) {
  const std::string name = fields.FullName("layer_types");
  if (!types.is_array() || types.size() != static_cast<size_t>(config.num_layers)) {
    return fields.Fail(
        Malformed(name, absl::StrCat("must be an array of ", config.num_layers, " entries"),
                  types.is_array() ? absl::StrCat(types.size()) : std::string(types.type_name())));
  }
  for (const nlohmann::json& type : types) {
    if (type != "full_attention" && type != "sliding_attention") {
      return fields.Fail(NotServed(
          name, "entries must be 'full_attention' or 'sliding_attention'",
          type.is_string() ? Quoted(type.get<std::string>()) : std::string(type.type_name())));
    }
    config.layer_is_local.push_back(type == "sliding_attention");
  }
}

// The period of global layers (Gemma 3), the first local layer (Qwen 2 and 3), or every layer
// (Mistral, Mixtral): what files say that have no layer_types.
void DeduceLocalLayers(JsonFields& fields, ModelConfig& config) {
  int64_t first_local = 0;
  int64_t period = 0;
  if (config.architecture == "gemma3") {
    period = fields.OptionalInteger("sliding_window_pattern", 1, kMaxLayers).value_or(6);
  } else if (config.architecture.starts_with("qwen")) {
    first_local = fields.OptionalInteger("max_window_layers", 0, 1 << 20).value_or(28);
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const bool global = period != 0 && (layer + 1) % period == 0;
    config.layer_is_local.push_back(layer >= first_local && !global);
  }
}

void ReadWindow(JsonFields& fields, ModelConfig& config) {
  const std::string& family = config.architecture;
  const bool qwen = family.starts_with("qwen");
  const bool has_windows = qwen || family == "mistral" || family == "mixtral" || family == "gemma3";
  if (!has_windows || !fields.status().ok()) return;
  if (qwen && !fields.OptionalBool("use_sliding_window").value_or(false)) return;
  if (!config.mixture.num_experts.empty() && qwen) {
    // No checkpoint does, and releases of transformers disagree on the layers that it would mean.
    return fields.Fail(NotServed(fields.FullName("use_sliding_window"),
                                 "windows of this family are not served", "true"));
  }
  const auto window = fields.OptionalInteger("sliding_window", 1, kMaxContext);
  if (!window) return;  // null: every layer sees everything
  config.sliding_window = static_cast<int32_t>(*window);
  if (const nlohmann::json* types = fields.Find("layer_types")) {
    ReadLayerTypes(fields, *types, config);
  } else {
    DeduceLocalLayers(fields, config);
  }
}

// OLMoE (2409.02060): one norm over all heads.
void ReadOlmoe(JsonFields& fields, ModelConfig& config) {
  config.norms_by_head = false;
  if (const auto clip = fields.OptionalFloat("clip_qkv")) {
    fields.Fail(NotServed(fields.FullName("clip_qkv"), "must be null", absl::StrCat(*clip)));
  }
}

// Gemma 3 (2503.19786): norms are stored less one, embeddings scaled, queries scaled by a number of
// their own.
void ReadGemma3(JsonFields& fields, ModelConfig& config) {
  config.norm_weight_offset = 1.0f;
  config.embedding_scale = std::sqrt(static_cast<float>(config.hidden_size));
  const double scalar = fields.OptionalFloat("query_pre_attn_scalar").value_or(256.0);
  if (!(scalar > 0.0 && scalar <= 1e6)) {
    fields.Fail(Malformed(fields.FullName("query_pre_attn_scalar"), "must be in (0, 1e6]",
                          absl::StrCat(scalar)));
  }
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(scalar));
  config.attention_soft_cap =
      static_cast<float>(fields.OptionalFloat("attn_logit_softcapping").value_or(0.0));
  config.final_logit_soft_cap =
      static_cast<float>(fields.OptionalFloat("final_logit_softcapping").value_or(0.0));
  if (fields.OptionalBool("use_bidirectional_attention").value_or(false)) {
    fields.Fail(NotServed(fields.FullName("use_bidirectional_attention"),
                          "only causal attention is served", "true"));
  }
}

absl::StatusOr<ModelConfig> ReadText(JsonFields fields, const Family& family) {
  ModelConfig config;
  config.architecture = std::string(family.architecture);
  config.rope_style = RopeStyle::kHalves;
  ReadSizes(fields, family, config);
  ReadActivation(fields, config);
  ReadHuggingFaceMixture(fields, config);
  config.read_me = ReadReadMeConfig(fields);
  if (config.read_me.num_experts > 0 && !config.mixture.num_experts.empty()) {
    fields.Fail(NotServed(fields.FullName("add_cluster_predictor"),
                          "must be false for a mixture with gates of its own", "true"));
  }
  if (config.architecture == "gemma3") ReadGemma3(fields, config);
  if (config.architecture == "olmoe") ReadOlmoe(fields, config);
  ReadWindow(fields, config);
  if (!fields.status().ok()) return fields.status();
  ReadHuggingFaceRope(fields, family.rope_theta, config);
  if (!fields.status().ok()) return fields.status();
  return config;
}

// The text part of a Gemma 3 that also sees. Its file leaves out what its class takes by itself, so
// that is put in here (the sizes of the 4B, and the vocabulary of all).
nlohmann::json CompleteGemma3Text(const nlohmann::json& text) {
  nlohmann::json complete = {
      {"vocab_size", 262208},
      {"hidden_size", 2304},
      {"intermediate_size", 9216},
      {"num_hidden_layers", 26},
      {"num_attention_heads", 8},
      {"num_key_value_heads", 4},
      {"max_position_embeddings", 131072},
      {"sliding_window", 4096},
  };
  complete.update(text);
  return complete;
}

}  // namespace

absl::StatusOr<ModelConfig> ReadHuggingFaceConfig(std::string_view config_json) {
  const absl::StatusOr<nlohmann::json> json = ParseJsonObject(config_json, "config.json");
  if (!json.ok()) return json.status();
  JsonFields fields(&*json, "config.json: ");
  const std::string model_type = fields.String("model_type");
  const nlohmann::json* quantization = fields.OptionalObject("quantization_config");
  const nlohmann::json* text = fields.OptionalObject("text_config");
  if (!fields.status().ok()) return fields.status();
  if (quantization != nullptr) {
    absl::Status status =
        CheckHuggingFaceQuantization(JsonFields(quantization, "config.json: quantization_config."));
    if (!status.ok()) return status;
  }
  if (model_type == "gemma3" && text != nullptr) {
    const nlohmann::json complete = CompleteGemma3Text(*text);
    return ReadText(JsonFields(&complete, "config.json: text_config."), *FindFamily("gemma3_text"));
  }
  if (IsEncoderType(model_type)) {
    ModelConfig config = ReadHuggingFaceEncoder(fields, model_type);
    if (!fields.status().ok()) return fields.status();
    return config;
  }
  const Family* family = FindFamily(model_type);
  if (family == nullptr) {
    return NotServed("config.json: model_type",
                     "must be llama, mistral, Yi, qwen2, qwen3, gemma3_text, gemma3, mixtral, "
                     "aquilamoe, qwen2_moe, qwen3_moe, olmoe, bert, roberta or xlm-roberta",
                     Quoted(model_type));
  }
  return ReadText(std::move(fields), *family);
}

}  // namespace pregate
