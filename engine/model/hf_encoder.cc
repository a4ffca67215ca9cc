#include "engine/model/hf_encoder.h"

#include <algorithm>
#include <cmath>

#include "engine/model/file_error.h"
#include "engine/model/hf_folder.h"
#include "engine/model/model_limits.h"

namespace pregate {
namespace {

// Where a type's configuration class differs if the file is silent.
struct Type {
  std::string_view name;
  bool behind_padding;  // positions begin behind the padding token's id
  int64_t vocab_size, num_positions, token_types;
};
constexpr Type kTypes[] = {
    {"bert", false, 30522, 512, 2},
    {"roberta", true, 50265, 512, 2},
    {"xlm-roberta", true, 250002, 512, 2},
};

const Type* FindType(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const Type& type) { return type.name == name; });
  return found == std::end(kTypes) ? nullptr : found;
}

void ReadActivation(JsonFields& fields, ModelConfig& config) {
  const std::string name = fields.OptionalString("hidden_act").value_or("gelu");
  if (name == "gelu") {
    config.activation = Activation::kGelu;
  } else if (name == "gelu_new" || name == "gelu_pytorch_tanh") {
    config.activation = Activation::kGeluTanh;
  } else if (name == "relu") {
    config.activation = Activation::kRelu;
  } else {
    fields.Fail(NotServed(fields.FullName("hidden_act"),
                          "must be 'gelu', 'gelu_new', 'gelu_pytorch_tanh' or 'relu'",
                          Quoted(name)));
  }
}

void ReadSizes(JsonFields& fields, const Type& type, ModelConfig& config) {
  config.num_layers =
      static_cast<int32_t>(fields.OptionalInteger("num_hidden_layers", 1, kMaxLayers).value_or(12));
  config.hidden_size =
      static_cast<int32_t>(fields.OptionalInteger("hidden_size", 1, kMaxHiddenSize).value_or(768));
  config.ffn_size = static_cast<int32_t>(
      fields.OptionalInteger("intermediate_size", 1, kMaxFfnSize).value_or(3072));
  config.num_heads = static_cast<int32_t>(
      fields.OptionalInteger("num_attention_heads", 1, kMaxHeads).value_or(12));
  config.num_kv_heads = config.num_heads;
  config.vocab_size = static_cast<int32_t>(
      fields.OptionalInteger("vocab_size", 1, kMaxVocab).value_or(type.vocab_size));
  if (config.hidden_size % config.num_heads != 0) {
    return fields.Fail(Malformed(fields.FullName("num_attention_heads"),
                                 absl::StrCat("must divide hidden_size ", config.hidden_size),
                                 absl::StrCat(config.num_heads)));
  }
  config.head_dim = config.hidden_size / config.num_heads;
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
}

void ReadPositions(JsonFields& fields, const Type& type, ModelConfig& config) {
  EncoderConfig& encoder = config.encoder;
  encoder.num_positions =
      static_cast<int32_t>(fields.OptionalInteger("max_position_embeddings", 1, kMaxContext)
                               .value_or(type.num_positions));
  encoder.num_token_types = static_cast<int32_t>(
      fields.OptionalInteger("type_vocab_size", 1, 1024).value_or(type.token_types));
  const auto padding = fields.OptionalInteger("pad_token_id", 0, kMaxVocab).value_or(1);
  encoder.first_position = type.behind_padding ? static_cast<int32_t>(padding) + 1 : 0;
  config.context_length = encoder.num_positions - encoder.first_position;
  if (config.context_length < 1) {
    fields.Fail(Malformed(fields.FullName("max_position_embeddings"),
                          absl::StrCat("must be more than ", encoder.first_position),
                          absl::StrCat(encoder.num_positions)));
  }
  const std::string kind = fields.OptionalString("position_embedding_type").value_or("absolute");
  if (kind != "absolute") {
    fields.Fail(
        NotServed(fields.FullName("position_embedding_type"), "must be 'absolute'", Quoted(kind)));
  }
}

// A classifier of one class is a cross-encoder; another head than that or the one for words that
// were masked is something else.
void ReadHead(JsonFields& fields, EncoderConfig& encoder) {
  const nlohmann::json* names = fields.Find("architectures");
  if (names == nullptr || !names->is_array() || names->empty() || !names->front().is_string()) {
    return;
  }
  const std::string name = names->front().get<std::string>();
  if (name.ends_with("ForSequenceClassification")) {
    encoder.scores = true;
    const nlohmann::json* labels = fields.OptionalObject("id2label");
    if (labels != nullptr && labels->size() != 1) {
      fields.Fail(NotServed(fields.FullName("id2label"), "must have one label, the score",
                            absl::StrCat(labels->size())));
    }
  } else if (!name.ends_with("Model") && !name.ends_with("ForMaskedLM") &&
             !name.ends_with("ForPreTraining") && name != "Contriever") {
    fields.Fail(NotServed(fields.FullName("architectures"),
                          "must be a model or one ForMaskedLM or ForSequenceClassification",
                          Quoted(name)));
  }
}

constexpr std::pair<std::string_view, std::string_view> kGlobalNames[] = {
    {"embeddings.word_embeddings", "token_embd"},
    {"embeddings.position_embeddings", "position_embd"},
    {"embeddings.token_type_embeddings", "token_types"},
    {"embeddings.LayerNorm", "token_embd_norm"},
    {"pooler.dense", "cls"},
    {"classifier", "cls.output"},
    {"classifier.dense", "cls"},
    {"classifier.out_proj", "cls.output"},
};
constexpr std::pair<std::string_view, std::string_view> kLayerNames[] = {
    {"attention.self.query", "attn_q"},
    {"attention.self.key", "attn_k"},
    {"attention.self.value", "attn_v"},
    {"attention.output.dense", "attn_output"},
    {"attention.output.LayerNorm", "attn_output_norm"},
    {"intermediate.dense", "ffn_up"},
    {"output.dense", "ffn_down"},
    {"output.LayerNorm", "layer_output_norm"},
};

template <size_t N>
std::optional<std::string_view> Translate(
    const std::pair<std::string_view, std::string_view> (&names)[N], std::string_view theirs) {
  for (const auto& [name, ours] : names) {
    if (name == theirs) return ours;
  }
  return std::nullopt;
}

bool ConsumePrefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// ".weight" or ".bias"; the first checkpoints call those of norms gamma and beta.
std::optional<std::string_view> KindOf(std::string_view suffix) {
  if (suffix == "weight" || suffix == "gamma") return ".weight";
  if (suffix == "bias" || suffix == "beta") return ".bias";
  return std::nullopt;
}

// A member of the pooling's file says how rows become a vector.
struct PoolingName {
  const char* flag;  // set in older files
  std::string_view mode;
  Pooling pooling;  // kNone: not served
};
constexpr PoolingName kPoolings[] = {
    {"pooling_mode_cls_token", "cls", Pooling::kCls},
    {"pooling_mode_mean_tokens", "mean", Pooling::kMean},
    {"pooling_mode_lasttoken", "lasttoken", Pooling::kLast},
    {"pooling_mode_max_tokens", "max", Pooling::kNone},
    {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", Pooling::kNone},
    {"pooling_mode_weightedmean_tokens", "weightedmean", Pooling::kNone},
};

// The object in a file of the folder, or null.
absl::StatusOr<nlohmann::json> ReadObject(const std::string& folder, const std::string& name) {
  const absl::StatusOr<MappedFile> text = OpenText(folder, name, kMaxConfigBytes);
  if (absl::IsNotFound(text.status())) return nlohmann::json();
  if (!text.ok()) return text.status();
  return ParseJsonObject(text->bytes(), name);
}

absl::Status ReadPooling(const std::string& folder, const std::string& path, Pooling* pooling) {
  const std::string file = absl::StrCat(path, "/config.json");
  const absl::StatusOr<nlohmann::json> json = ReadObject(folder, file);
  if (!json.ok()) return json.status();
  if (json->is_null()) return DoesNotFit(file, "must be given", "no such file");
  JsonFields fields(&*json, absl::StrCat(file, ": "));
  std::vector<const PoolingName*> asked;
  const std::optional<std::string> mode = fields.OptionalString("pooling_mode");
  for (const PoolingName& name : kPoolings) {
    const bool flag = fields.OptionalBool(name.flag).value_or(false);
    if (mode ? *mode == name.mode : flag) asked.push_back(&name);
  }
  if (!fields.status().ok()) return fields.status();
  if (asked.size() != 1 || asked[0]->pooling == Pooling::kNone) {
    return NotServed(fields.FullName("pooling_mode"), "must be one of cls, mean and lasttoken",
                     asked.empty() ? "none" : asked[0]->mode);
  }
  *pooling = asked[0]->pooling;
  return absl::OkStatus();
}

// A module's place is a folder of this one: no way out of it.
bool IsPlainPath(std::string_view path) {
  return path.size() <= 64 && std::all_of(path.begin(), path.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-';
         });
}

absl::Status ReadModules(const std::string& folder, std::string_view text, Pooling* pooling) {
  constexpr std::string_view kFile = "modules.json";
  // An array, which as a member becomes what the readers of objects take.
  const absl::StatusOr<nlohmann::json> json =
      ParseJsonObject(absl::StrCat("{\"modules\":", ToAbsl(text), "}"), kFile);
  if (!json.ok()) return json.status();
  for (const nlohmann::json& entry : (*json)["modules"]) {
    if (!entry.is_object()) {
      return Malformed(kFile, "entries must be objects", entry.type_name());
    }
    JsonFields fields(&entry, "modules.json: ");
    const std::string type = fields.String("type");
    const std::string path = fields.OptionalString("path").value_or("");
    if (!fields.status().ok()) return fields.status();
    if (!IsPlainPath(path)) {
      return Malformed("modules.json: path", "must be the name of a folder here", Quoted(path));
    }
    const std::string_view kind = std::string_view(type).substr(type.rfind('.') + 1);
    if (kind == "Pooling") {
      if (absl::Status status = ReadPooling(folder, path, pooling); !status.ok()) return status;
    } else if (kind == "Transformer" ? !path.empty() : kind != "Normalize") {
      return NotServed("modules.json: type",
                       "must be a Transformer of this folder, Pooling or Normalize", Quoted(type));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsEncoderType(std::string_view model_type) { return FindType(model_type) != nullptr; }

ModelConfig ReadHuggingFaceEncoder(JsonFields& fields, std::string_view model_type) {
  const Type& type = *FindType(model_type);
  ModelConfig config;
  config.architecture = "bert";
  config.encoder.present = true;
  ReadSizes(fields, type, config);
  ReadActivation(fields, config);
  ReadPositions(fields, type, config);
  ReadHead(fields, config.encoder);
  config.encoder.layer_norm_eps =
      static_cast<float>(fields.OptionalFloat("layer_norm_eps").value_or(1e-12));
  for (const char* flag : {"is_decoder", "add_cross_attention"}) {
    if (fields.OptionalBool(flag).value_or(false)) {
      fields.Fail(NotServed(fields.FullName(flag), "must be false", "true"));
    }
  }
  return config;
}

absl::Status ReadSentenceFiles(const std::string& folder, ModelConfig& config) {
  const absl::StatusOr<MappedFile> modules = OpenText(folder, "modules.json", kMaxConfigBytes);
  if (!modules.ok() && !absl::IsNotFound(modules.status())) return modules.status();
  if (modules.ok()) {
    absl::Status status = ReadModules(folder, modules->bytes(), &config.encoder.pooling);
    if (!status.ok()) return status;
  }
  const absl::StatusOr<nlohmann::json> json = ReadObject(folder, "sentence_bert_config.json");
  if (!json.ok()) return json.status();
  if (json->is_null()) return absl::OkStatus();
  JsonFields fields(&*json, "sentence_bert_config.json: ");
  const auto length = fields.OptionalInteger("max_seq_length", 1, kMaxContext);
  config.encoder.max_length = static_cast<int32_t>(
      std::min<int64_t>(length.value_or(config.context_length), config.context_length));
  if (fields.OptionalBool("do_lower_case").value_or(false)) {
    fields.Fail(NotServed(fields.FullName("do_lower_case"),
                          "must be false: the tokenizer makes letters small where they have to be",
                          "true"));
  }
  return fields.status();
}

std::optional<std::string> EncoderTensorName(std::string_view name) {
  // Heads that find words and sentences again.
  for (const std::string_view head : {"cls.predictions.", "cls.seq_relationship.", "lm_head."}) {
    if (name.starts_with(head)) return "";
  }
  for (const std::string_view prefix : {"bert.", "roberta.", "model."}) {
    if (ConsumePrefix(name, prefix)) break;
  }
  if (name == "embeddings.position_ids" || name == "embeddings.token_type_ids") return "";
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::optional<std::string_view> kind = KindOf(name.substr(dot + 1));
  if (!kind) return std::nullopt;
  std::string_view stem = name.substr(0, dot);
  std::string layer;
  std::optional<std::string_view> ours;
  if (ConsumePrefix(stem, "encoder.layer.")) {
    const std::string_view number = stem.substr(0, stem.find('.'));
    const bool digits =
        !number.empty() && number.size() <= 4 && number.size() < stem.size() &&
        std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || (number.size() > 1 && number[0] == '0')) return std::nullopt;
    layer = absl::StrCat("blk.", ToAbsl(number), ".");
    ours = Translate(kLayerNames, stem.substr(number.size() + 1));
  } else {
    ours = Translate(kGlobalNames, stem);
  }
  if (!ours) return std::nullopt;
  return absl::StrCat(layer, ToAbsl(*ours), ToAbsl(*kind));
}

}  // namespace pregate
