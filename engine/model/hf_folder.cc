#include "engine/model/hf_folder.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/model/f8_weights.h"
#include "engine/model/file_error.h"
#include "engine/model/hf_names.h"
#include "engine/model/json_fields.h"
#include "engine/model/read_me_tensors.h"
#include "engine/model/safetensors.h"

namespace pregate {
namespace {

constexpr std::string_view kWhole = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr size_t kMaxShards = 4096;

std::string Join(const std::string& folder, std::string_view name) {
  return absl::StrCat(folder, "/", ToAbsl(name));
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
    const ModelConfig& config = contents_->config;
    std::optional<std::string> name;
    if (config.read_me.num_experts > 0) {
      if (const std::optional<int64_t> layer = ExpertMaskLayer(tensor.name)) {
        return ReadExpertMasks(tensor, config, *layer, &contents_->neuron_owners);
      }
      name = ReadMeTensorName(tensor.name);
    }
    if (!name) name = CanonicalTensorName(tensor.name, config.architecture);
    if (!name) {
      return DoesNotFit(field, "the architecture has no such tensor", Quoted(tensor.name));
    }
    const bool scores = config.encoder.present && config.encoder.scores;
    const bool unused_head = (*name == "output.weight" && config.tied_embeddings) ||
                             (name->starts_with("cls.") && !scores);
    if (name->empty() || unused_head) return absl::OkStatus();
    if (!tensor.dtype) {
      return NotServed(field, "type must be F32, F16, BF16 or F8_E4M3", Quoted(tensor.type));
    }
    std::vector<int64_t> shape = tensor.shape;
    if (name->ends_with(kF8ScaleSuffix) && shape.size() < 2)
      shape.resize(2, 1);  // see f8_weights.h
    if (shape.empty() || tensor.data.empty()) {
      return Malformed(field, "must have dimensions, none of them zero",
                       absl::StrCat(tensor.data.size(), " bytes"));
    }
    const auto [first, inserted] = theirs_.emplace(*name, tensor.name);
    if (!inserted) {
      return Malformed(field, "tensors must be unique", Quoted(first->second));
    }
    contents_->tensors.push_back({*std::move(name), *tensor.dtype, std::move(shape),
                                  Aligned(tensor), static_cast<int64_t>(tensor.data.size())});
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

}  // namespace

absl::StatusOr<MappedFile> OpenText(const std::string& folder, std::string_view name,
                                    size_t max_bytes) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(Join(folder, name), name);
  if (file.ok() && file->bytes().size() > max_bytes) {
    return Malformed(name, absl::StrCat("must have at most ", max_bytes, " bytes"),
                     absl::StrCat(file->bytes().size()));
  }
  return file;
}

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

}  // namespace pregate
