// A Hugging Face folder: config.json, tensors, tokenizer files.
#include <utility>

#include "engine/model/file_error.h"
#include "engine/model/hf_config.h"
#include "engine/model/hf_encoder.h"
#include "engine/model/hf_folder.h"
#include "engine/model/json_fields.h"
#include "engine/model/model_contents.h"

namespace pregate {
namespace {

constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;

// As OpenText, but "" when the file is not there.
absl::StatusOr<std::string> ReadOptionalText(const std::string& folder, std::string_view name) {
  absl::StatusOr<MappedFile> file = OpenText(folder, name, kMaxConfigBytes);
  if (absl::IsNotFound(file.status())) return std::string();
  if (!file.ok()) return file.status();
  return std::string(file->bytes());
}

// Makes the tokenizer name exactly the rows of the logits. Embedding tables are often padded: the
// rows beyond the vocabulary become unused tokens. Gemma 3's vocabulary ends with tokens for images
// that its text models have no row for: special tokens beyond the table are dropped.
absl::Status FitVocabulary(int32_t vocab_size, TokenizerSpec& spec) {
  const auto rows = static_cast<size_t>(vocab_size);
  spec.token_types.resize(spec.tokens.size(), TokenizerSpec::kNormal);
  for (size_t id = rows; id < spec.tokens.size(); ++id) {
    if (spec.token_types[id] == TokenizerSpec::kNormal) {
      return DoesNotFit("tokenizer.json",
                        absl::StrCat("must have at most vocab_size ", rows, " tokens"),
                        absl::StrCat(spec.tokens.size()));
    }
  }
  for (const auto& id : {spec.bos_id, spec.eos_id, spec.unknown_id}) {
    if (id && *id >= vocab_size) {
      return DoesNotFit("tokenizer.json",
                        absl::StrCat("special tokens must be below vocab_size ", rows),
                        absl::StrCat(*id));
    }
  }
  std::erase_if(spec.end_of_turn_ids, [&](int32_t id) { return id >= vocab_size; });
  for (size_t id = spec.tokens.size(); id < rows; ++id) {
    spec.tokens.push_back(absl::StrCat("[unused row ", id, "]"));
  }
  spec.tokens.resize(rows);
  spec.token_types.resize(rows, TokenizerSpec::kUnused);
  if (!spec.scores.empty()) spec.scores.resize(rows, 0.0f);
  return absl::OkStatus();
}

// Older folders have no tokenizer.json, but a vocabulary in BERT's form.
absl::StatusOr<std::string> ReadTokenizerJson(const std::string& folder,
                                              std::string_view tokenizer_config) {
  const auto tokenizer = OpenText(folder, "tokenizer.json", kMaxTokenizerBytes);
  if (tokenizer.ok()) return std::string(tokenizer->bytes());
  if (!absl::IsNotFound(tokenizer.status())) return tokenizer.status();
  const auto vocabulary = OpenText(folder, "vocab.txt", kMaxTokenizerBytes);
  if (absl::IsNotFound(vocabulary.status())) return tokenizer.status();
  if (!vocabulary.ok()) return vocabulary.status();
  return TokenizerJsonOfVocabulary(vocabulary->bytes(), tokenizer_config);
}

absl::Status ReadTokenizer(const std::string& folder, std::string_view tokenizer_config,
                           ModelContents& contents) {
  const auto tokenizer = ReadTokenizerJson(folder, tokenizer_config);
  if (!tokenizer.ok()) return tokenizer.status();
  const auto generation = ReadOptionalText(folder, "generation_config.json");
  if (!generation.ok()) return generation.status();
  auto spec = ParseTokenizerJson(*tokenizer, tokenizer_config, *generation);
  if (!spec.ok()) return spec.status();
  contents.tokenizer = *std::move(spec);
  return FitVocabulary(contents.config.vocab_size, contents.tokenizer);
}

// chat_template of tokenizer_config.json: one text, or several with names, of which "default".
absl::StatusOr<std::string> TemplateOfConfig(std::string_view tokenizer_config) {
  const auto json = ParseJsonObject(tokenizer_config, "tokenizer_config.json");
  if (!json.ok()) return json.status();
  JsonFields fields(&*json, "tokenizer_config.json: ");
  const nlohmann::json* value = fields.Find("chat_template");
  if (value == nullptr || !value->is_array()) {
    std::string text = fields.OptionalString("chat_template").value_or("");
    if (!fields.status().ok()) return fields.status();
    return text;
  }
  for (const nlohmann::json& entry : *value) {
    if (!entry.is_object()) {
      return Malformed(fields.FullName("chat_template"), "entries must be objects",
                       entry.type_name());
    }
    JsonFields named(&entry, fields.FullName("chat_template."));
    const std::string name = named.String("name");
    std::string text = named.String("template");
    if (!named.status().ok()) return named.status();
    if (name == "default") return text;
  }
  return std::string();
}

absl::StatusOr<std::string> ReadChatTemplate(const std::string& folder,
                                             std::string_view tokenizer_config) {
  absl::StatusOr<std::string> own_file = ReadOptionalText(folder, "chat_template.jinja");
  if (!own_file.ok() || !own_file->empty()) return own_file;
  if (tokenizer_config.empty()) return std::string();
  return TemplateOfConfig(tokenizer_config);
}

}  // namespace

absl::StatusOr<ModelContents> ReadHuggingFaceModel(const std::string& folder) {
  const auto config_json = OpenText(folder, "config.json", kMaxConfigBytes);
  if (!config_json.ok()) return config_json.status();
  absl::StatusOr<ModelConfig> config = ReadHuggingFaceConfig(config_json->bytes());
  if (!config.ok()) return config.status();
  ModelContents contents;
  contents.format = "safetensors";
  contents.config = *std::move(config);
  if (contents.config.encoder.present) {
    absl::Status status = ReadSentenceFiles(folder, contents.config);
    if (!status.ok()) return status;
  }
  if (absl::Status status = ReadTensors(folder, contents); !status.ok()) return status;
  contents.config.read_me.masked = !contents.neuron_owners.empty();
  if (absl::Status status = CheckModel(contents); !status.ok()) return status;

  const auto tokenizer_config = ReadOptionalText(folder, "tokenizer_config.json");
  if (!tokenizer_config.ok()) return tokenizer_config.status();
  if (absl::Status status = ReadTokenizer(folder, *tokenizer_config, contents); !status.ok()) {
    return status;
  }
  absl::StatusOr<std::string> chat_template = ReadChatTemplate(folder, *tokenizer_config);
  if (!chat_template.ok()) return chat_template.status();
  contents.chat_template = *std::move(chat_template);
  return contents;
}

}  // namespace pregate
