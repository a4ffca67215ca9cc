// GGUF metadata to a configuration: what the keys of each served architecture mean.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "engine/model/gguf.h"
#include "engine/model/gguf_encoder.h"
#include "engine/model/gguf_fields.h"
#include "engine/model/gguf_mixture.h"
#include "engine/model/gguf_tokenizer.h"
#include "engine/model/model_contents.h"
#include "engine/model/model_limits.h"
#include "engine/model/rope_scaling.h"

namespace pregate {
namespace {

struct Architecture {
  std::string_view name;
  RopeStyle rope_style;
};
// "llama" stands for Llama 1 to 3, Mistral, Yi, SmolLM2 and, with experts, Mixtral; its files have
// the rows of the query and key projections permuted for interleaved rotation.
constexpr Architecture kArchitectures[] = {
    {"llama", RopeStyle::kInterleaved}, {"qwen2", RopeStyle::kHalves},
    {"qwen3", RopeStyle::kHalves},      {"gemma3", RopeStyle::kHalves},
    {"qwen2moe", RopeStyle::kHalves},   {"qwen3moe", RopeStyle::kHalves},
    {"olmoe", RopeStyle::kHalves},      {"bert", RopeStyle::kHalves},
};

absl::StatusOr<Architecture> ReadArchitecture(const GgufFile& file) {
  GgufFields general(&file, "general.");
  const std::string_view name = general.String("architecture");
  if (!general.status().ok()) return general.status();
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return architecture;
  }
  return NotServed("general.architecture",
                   "must be llama, qwen2, qwen3, gemma3, qwen2moe, qwen3moe, olmoe or bert",
                   Quoted(name));
}

void ReadSizes(GgufFields& fields, ModelConfig& config) {
  config.num_layers = fields.Integer("block_count", 1, kMaxLayers);
  config.hidden_size = fields.Integer("embedding_length", 1, kMaxHiddenSize);
  config.ffn_size = fields.Integer("feed_forward_length", 1, kMaxFfnSize);
  config.context_length = fields.Integer("context_length", 1, kMaxContext);
  config.num_heads = fields.Integer("attention.head_count", 1, kMaxHeads);
  config.num_kv_heads = static_cast<int32_t>(
      fields.OptionalInteger("attention.head_count_kv", 1, kMaxHeads).value_or(config.num_heads));
  config.rms_norm_eps = static_cast<float>(fields.Float("attention.layer_norm_rms_epsilon"));
}

void ReadHeadDim(GgufFields& fields, ModelConfig& config) {
  if (!fields.status().ok()) return;  // the sizes below may be zero
  const auto key_length = fields.OptionalInteger("attention.key_length", 1, kMaxHeadDim);
  if (!key_length && config.hidden_size % config.num_heads != 0) {
    fields.Fail(Malformed(fields.FullKey("attention.head_count"),
                          absl::StrCat("must divide embedding_length ", config.hidden_size),
                          absl::StrCat(config.num_heads)));
    return;
  }
  config.head_dim =
      static_cast<int32_t>(key_length.value_or(config.hidden_size / config.num_heads));
  const auto value_length = fields.OptionalInteger("attention.value_length", 1, kMaxHeadDim);
  if (value_length.value_or(config.head_dim) != config.head_dim) {
    fields.Fail(NotServed(fields.FullKey("attention.value_length"),
                          absl::StrCat("must be as key_length ", config.head_dim),
                          absl::StrCat(*value_length)));
  }
}

RopeScaling ReadRopeScaling(GgufFields& fields) {
  RopeScaling scaling;
  const std::string_view type = fields.OptionalString("rope.scaling.type").value_or("none");
  if (type == "none") return scaling;
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
  } else if (type == "yarn") {
    scaling.kind = RopeScaling::Kind::kYarn;
  } else {
    fields.Fail(NotServed(fields.FullKey("rope.scaling.type"), "must be none, linear or yarn",
                          Quoted(type)));
    return scaling;
  }
  scaling.factor = fields.Float("rope.scaling.factor");
  if (scaling.kind == RopeScaling::Kind::kYarn) {
    scaling.original_context =
        static_cast<double>(fields.Integer("rope.scaling.original_context_length", 1, kMaxContext));
    scaling.beta_fast = fields.OptionalFloat("rope.scaling.yarn_beta_fast").value_or(32.0);
    scaling.beta_slow = fields.OptionalFloat("rope.scaling.yarn_beta_slow").value_or(1.0);
    // The file's factor multiplies the paper's own.
    if (const auto magnitude = fields.OptionalFloat("rope.scaling.attn_factor")) {
      scaling.magnitude = *magnitude * (1.0 + 0.1 * std::log(std::max(scaling.factor, 1.0)));
    }
  }
  return scaling;
}

const GgufTensor* FindTensor(const GgufFile& file, std::string_view name) {
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// Llama 3.1 and later: the converter has turned the scaling rule into one divisor for each pair.
absl::Status ApplyRopeFactors(const GgufFile& file, std::vector<float>& inv_freq) {
  const std::string_view name = "rope_freqs.weight";
  const GgufTensor* tensor = FindTensor(file, name);
  if (tensor == nullptr) return absl::OkStatus();
  if (tensor->dtype != DType::kF32 || tensor->shape.size() != 1 ||
      tensor->shape[0] != static_cast<int64_t>(inv_freq.size())) {
    return DoesNotFit(
        name, absl::StrCat("must be F32 [", inv_freq.size(), "]"),
        absl::StrCat(ToAbsl(GetDTypeInfo(tensor->dtype).name), " of ", tensor->shape.size(),
                     " dimensions, the last ", tensor->shape.back()));
  }
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    float factor;
    std::memcpy(&factor, tensor->data.data() + i * sizeof(factor), sizeof(factor));
    if (!(factor > 0.0f && factor <= 1e6f)) {
      return Malformed(absl::StrCat(ToAbsl(name), "[", i, "]"), "must be in (0, 1e6]",
                       absl::StrCat(factor));
    }
    inv_freq[i] /= factor;
  }
  return absl::OkStatus();
}

void ReadRope(const GgufFile& file, GgufFields& fields, ModelConfig& config) {
  if (!fields.status().ok()) return;
  const auto rotated = static_cast<int>(
      fields.OptionalInteger("rope.dimension_count", 2, config.head_dim).value_or(config.head_dim));
  const double theta = fields.OptionalFloat("rope.freq_base").value_or(10000.0);
  const RopeScaling scaling = ReadRopeScaling(fields);
  if (rotated % 2 != 0) {
    fields.Fail(
        Malformed(fields.FullKey("rope.dimension_count"), "must be even", absl::StrCat(rotated)));
  }
  if (!fields.status().ok()) return;
  auto frequencies = MakeRopeFrequencies(fields.FullKey("rope"), theta, rotated, scaling);
  if (!frequencies.ok()) return fields.Fail(frequencies.status());
  config.rope_theta = frequencies->theta;
  config.inv_freq = std::move(frequencies->inv_freq);
  config.rope_magnitude = frequencies->magnitude;
  fields.Fail(ApplyRopeFactors(file, config.inv_freq));
}

// Which layers see only the window: stated as one flag for each, or as the period of global ones.
void ReadLocalLayers(const GgufFile& file, GgufFields& fields, ModelConfig& config) {
  const std::string key = fields.FullKey("attention.sliding_window_pattern");
  const GgufValue* pattern = file.Find(key);
  if (pattern != nullptr && pattern->type == GgufType::kArray) {
    const auto flags = file.GetBools(key, kMaxLayers);
    if (!flags.ok()) return fields.Fail(flags.status());
    config.layer_is_local.assign(flags->begin(), flags->end());
    return;
  }
  const int64_t period =
      fields.OptionalInteger("attention.sliding_window_pattern", 1, kMaxLayers).value_or(6);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    config.layer_is_local.push_back((layer + 1) % period != 0);
  }
}

// Gemma 3 (2503.19786): GeGLU, scaled embeddings, five local layers to each global one.
void ReadGemma3(const GgufFile& file, GgufFields& fields, ModelConfig& config) {
  if (!fields.status().ok()) return;
  config.activation = Activation::kGeluTanh;
  config.embedding_scale = std::sqrt(static_cast<float>(config.hidden_size));
  // The file has no key for the query scale. Every size takes its head width, save the 27B (the one
  // of 62 layers), which takes hidden_size / num_heads.
  const bool is_27b = config.num_layers == 62;
  const int32_t scale_dim = is_27b ? config.hidden_size / config.num_heads : config.head_dim;
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(scale_dim));
  config.attention_soft_cap =
      static_cast<float>(fields.OptionalFloat("attn_logit_softcapping").value_or(0.0));
  config.final_logit_soft_cap =
      static_cast<float>(fields.OptionalFloat("final_logit_softcapping").value_or(0.0));
  config.sliding_window = fields.Integer("attention.sliding_window", 1, kMaxContext);
  ReadLocalLayers(file, fields, config);
  const double theta = fields.OptionalFloat("rope.freq_base_swa").value_or(10000.0);
  auto local = MakeRopeFrequencies(fields.FullKey("rope.freq_base_swa"), theta,
                                   2 * static_cast<int>(config.inv_freq.size()), {});
  if (!local.ok()) return fields.Fail(local.status());
  config.local_inv_freq = std::move(local->inv_freq);
}

// Mistral v0.1: every layer is local.
void ReadLlamaWindow(GgufFields& fields, ModelConfig& config) {
  const auto window = fields.OptionalInteger("attention.sliding_window", 0, kMaxContext);
  if (window.value_or(0) == 0) return;
  config.sliding_window = static_cast<int32_t>(*window);
  config.layer_is_local.assign(config.num_layers, 1);
}

// The width of the logits is the height of the embedding table; the tokenizer must name each row.
void ReadVocab(const GgufFile& file, size_t num_tokens, GgufFields& fields, ModelConfig& config) {
  const GgufTensor* table = FindTensor(file, "token_embd.weight");
  if (table == nullptr) {
    return fields.Fail(DoesNotFit("token_embd.weight", "must be given", "no such tensor"));
  }
  const int64_t rows = table->shape.front();
  if (table->shape.size() != 2 || rows != static_cast<int64_t>(num_tokens)) {
    return fields.Fail(
        DoesNotFit("token_embd.weight",
                   absl::StrCat("must be a table of ", num_tokens, " rows, one for each token"),
                   absl::StrCat(table->shape.size(), " dimensions, the first ", rows)));
  }
  const auto stated = fields.OptionalInteger("vocab_size", 1, kMaxVocab);
  if (stated.value_or(rows) != rows) {
    return fields.Fail(DoesNotFit(fields.FullKey("vocab_size"),
                                  absl::StrCat("must be as token_embd.weight's rows ", rows),
                                  absl::StrCat(*stated)));
  }
  config.vocab_size = static_cast<int32_t>(rows);
  config.tied_embeddings = FindTensor(file, "output.weight") == nullptr;
}

absl::StatusOr<ModelConfig> ReadConfig(const GgufFile& file, size_t num_tokens) {
  const absl::StatusOr<Architecture> architecture = ReadArchitecture(file);
  if (!architecture.ok()) return architecture.status();
  if (architecture->name == "bert") return ReadGgufEncoder(file, num_tokens);
  ModelConfig config;
  config.architecture = std::string(architecture->name);
  config.rope_style = architecture->rope_style;
  GgufFields general(&file, "general.");
  config.name = std::string(general.OptionalString("name").value_or(""));
  if (!general.status().ok()) return general.status();

  GgufFields fields(&file, config.architecture + ".");
  ReadSizes(fields, config);
  ReadHeadDim(fields, config);
  ReadRope(file, fields, config);
  if (fields.status().ok()) {
    config.attention_scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  }
  ReadGgufMixture(file, fields, config);
  if (config.architecture == "gemma3") ReadGemma3(file, fields, config);
  if (config.architecture == "llama") ReadLlamaWindow(fields, config);
  ReadVocab(file, num_tokens, fields, config);
  if (!fields.status().ok()) return fields.status();
  return config;
}

}  // namespace

absl::StatusOr<ModelContents> ReadGgufModel(std::string_view file) {
  const absl::StatusOr<GgufFile> gguf = GgufFile::Parse(file);
  if (!gguf.ok()) return gguf.status();
  // First of all, so that a model which is not served says so rather than what it lacks.
  if (const auto architecture = ReadArchitecture(*gguf); !architecture.ok()) {
    return architecture.status();
  }
  absl::StatusOr<TokenizerSpec> tokenizer = ReadGgufTokenizer(*gguf);
  if (!tokenizer.ok()) return tokenizer.status();
  absl::StatusOr<ModelConfig> config = ReadConfig(*gguf, tokenizer->tokens.size());
  if (!config.ok()) return config.status();
  const auto chat_template = gguf->GetString("tokenizer.chat_template");
  if (!chat_template.ok()) return chat_template.status();

  ModelContents contents;
  contents.format = absl::StrCat("GGUF v", gguf->version());
  contents.config = *std::move(config);
  contents.tokenizer = *std::move(tokenizer);
  contents.chat_template = std::string(chat_template->value_or(""));
  for (const GgufTensor& tensor : gguf->tensors()) {
    if (absl::Status status = AddGgufTensor(tensor, contents); !status.ok()) return status;
  }
  if (absl::Status status = CheckModel(contents); !status.ok()) return status;
  return contents;
}

}  // namespace pregate
