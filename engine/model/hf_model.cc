// A Hugging Face folder: config.json, safetensors (whole or in shards), tokenizer files.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/model/file_error.h"
#include "engine/model/hf_config.h"
#include "engine/model/hf_names.h"
#include "engine/model/json_fields.h"
#include "engine/model/model_contents.h"
#include "engine/model/model_limits.h"
#include "engine/model/safetensors.h"

namespace pregate {
namespace {

constexpr std::string_view kWhole = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr size_t kMaxShards = 4096;
constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;

std::string Join(const std::string& folder, std::string_view name) {
  return absl::StrCat(folder, "/", ToAbsl(name));
}

// The text of a file of the folder. NOT_FOUND when it is not there.
absl::StatusOr<MappedFile> OpenText(const std::string& folder, std::string_view name,
                                    size_t max_bytes) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(Join(folder, name), name);
  if (file.ok() && file->bytes().size() > max_bytes) {
    return Malformed(name, absl::StrCat("must have at most ", max_bytes, " bytes"),
                     absl::StrCat(file->bytes().size()));
  }
  return file;
}

// As OpenText, but "" when the file is not there.
absl::StatusOr<std::string> ReadOptionalText(const std::string& folder, std::string_view name) {
  absl::StatusOr<MappedFile> file = OpenText(folder, name, kMaxConfigBytes);
  if (absl::IsNotFound(file.status())) return std::string();
  if (!file.ok()) return file.status();
  return std::string(file->bytes());
}

// A shard is a file of the folder itself: no path, nothing hidden.
bool IsPlainFileName(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= 255 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), allowed);
}

// Shards by name, with the tensors that the index expects in each.
using ShardMap = std::map<std::string, std::set<std::string>>;

absl::StatusOr<ShardMap> ReadIndex(const std::string& folder) {
  absl::StatusOr<MappedFile> text = OpenText(folder, kIndex, kMaxConfigBytes);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(
        "model.safetensors: must be given, whole or in shards with an index; got no such file");
  }
  if (!text.ok()) return text.status();
  const absl::StatusOr<nlohmann::json> json = ParseJsonObject(text->bytes(), kIndex);
  if (!json.ok()) return json.status();
  JsonFields fields(&*json, absl::StrCat(ToAbsl(kIndex), ": "));
  const nlohmann::json* weight_map = fields.OptionalObject("weight_map");
  if (weight_map == nullptr)
    fields.Fail(Malformed(fields.FullName("weight_map"), "must be given", "no such member"));
  if (!fields.status().ok()) return fields.status();
  ShardMap shards;
  for (const auto& [tensor, shard] : weight_map->items()) {
    const std::string field =
        absl::StrCat(fields.FullName("weight_map"), ".", absl::CHexEscape(tensor.substr(0, 64)));
    if (!shard.is_string()) return Malformed(field, "must be a string", shard.type_name());
    const auto& name = shard.get_ref<const std::string&>();
    if (!IsPlainFileName(name)) {
      return Malformed(field, "must be the plain name of a file in the folder", Quoted(name));
    }
    shards[name].insert(tensor);
  }
  if (shards.empty() || shards.size() > kMaxShards) {
    return Malformed(fields.FullName("weight_map"),
                     absl::StrCat("must name 1 to ", kMaxShards, " files"),
                     absl::StrCat(shards.size()));
  }
  return shards;
}

// Adds the tensors of one file to `contents`, under their canonical names.
class TensorCollector {
 public:
  explicit TensorCollector(ModelContents* contents) : contents_(contents) {}

  absl::Status AddFile(const std::string& folder, const std::string& name,
                       const std::set<std::string>& expected) {
    absl::StatusOr<MappedFile> file = MappedFile::Open(Join(folder, name), name);
    if (!file.ok()) return file.status();
    auto tensors = ParseSafetensors(file->bytes(), name);
    if (!tensors.ok()) return tensors.status();
    size_t found = 0;
    for (const SafetensorsTensor& tensor : *tensors) {
      found += expected.count(tensor.name);
      if (absl::Status status = Add(tensor); !status.ok()) return status;
    }
    if (found != expected.size()) {
      return DoesNotFit(
          name, absl::StrCat("must hold the ", expected.size(), " tensors that the index says"),
          absl::StrCat(found));
    }
    contents_->files.push_back(*std::move(file));
    return absl::OkStatus();
  }

 private:
  absl::Status Add(const SafetensorsTensor& tensor) {
    const std::string field = absl::StrCat("tensor ", absl::CHexEscape(tensor.name));
    std::optional<std::string> name =
        CanonicalTensorName(tensor.name, contents_->config.architecture);
    if (!name) {
      return DoesNotFit(field, "the architecture has no such tensor", Quoted(tensor.name));
    }
    const bool unused_head = *name == "output.weight" && contents_->config.tied_embeddings;
    if (name->empty() || unused_head) return absl::OkStatus();
    if (!tensor.dtype) {
      return NotServed(field, "type must be F32, F16 or BF16", Quoted(tensor.type));
    }
    if (tensor.shape.empty() || tensor.data.empty()) {
      return Malformed(field, "must have dimensions, none of them zero",
                       absl::StrCat(tensor.data.size(), " bytes"));
    }
    const auto [first, inserted] = theirs_.emplace(*name, tensor.name);
    if (!inserted) {
      return Malformed(field, "tensors must be unique", Quoted(first->second));
    }
    contents_->tensors.push_back({*std::move(name), *tensor.dtype, tensor.shape, Aligned(tensor),
                                  static_cast<int64_t>(tensor.data.size())});
    return absl::OkStatus();
  }

  // The tensor's bytes where an element may be read. Early writers did not pad their headers: then
  // the data lies at any address, and such a tensor is copied.
  const void* Aligned(const SafetensorsTensor& tensor) {
    const auto address = reinterpret_cast<uintptr_t>(tensor.data.data());
    if (address % GetDTypeInfo(*tensor.dtype).block_bytes == 0) return tensor.data.data();
    contents_->copies.push_back(std::make_unique<char[]>(tensor.data.size()));
    std::memcpy(contents_->copies.back().get(), tensor.data.data(), tensor.data.size());
    return contents_->copies.back().get();
  }

  ModelContents* contents_;
  absl::flat_hash_map<std::string, std::string> theirs_;  // by canonical name
};

absl::Status ReadTensors(const std::string& folder, ModelContents& contents) {
  TensorCollector collector(&contents);
  absl::Status whole = collector.AddFile(folder, std::string(kWhole), {});
  if (!absl::IsNotFound(whole)) return whole;
  const absl::StatusOr<ShardMap> shards = ReadIndex(folder);
  if (!shards.ok()) return shards.status();
  for (const auto& [name, expected] : *shards) {
    if (absl::Status status = collector.AddFile(folder, name, expected); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
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

absl::Status ReadTokenizer(const std::string& folder, std::string_view tokenizer_config,
                           ModelContents& contents) {
  const auto tokenizer = OpenText(folder, "tokenizer.json", kMaxTokenizerBytes);
  if (!tokenizer.ok()) return tokenizer.status();
  const auto generation = ReadOptionalText(folder, "generation_config.json");
  if (!generation.ok()) return generation.status();
  auto spec = ParseTokenizerJson(tokenizer->bytes(), tokenizer_config, *generation);
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
  if (absl::Status status = ReadTensors(folder, contents); !status.ok()) return status;
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
