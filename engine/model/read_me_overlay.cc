#include "engine/model/read_me_overlay.h"

#include <cmath>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/model/file_error.h"
#include "engine/model/hf_folder.h"
#include "engine/model/json_fields.h"
#include "engine/model/model_contents.h"
#include "engine/model/model_limits.h"
#include "engine/model/read_me_tensors.h"

namespace pregate {
namespace {

constexpr std::string_view kModelType = "read_me_overlay";

class OverlaidModel final : public ModelFile {
 public:
  // `read_me`: the configuration of both, and what the folder adds.
  OverlaidModel(std::unique_ptr<ModelFile> model, ModelContents read_me)
      : model_(std::move(model)), read_me_(std::move(read_me)), tensors_(model_->tensors()) {
    tensors_.insert(tensors_.end(), read_me_.tensors.begin(), read_me_.tensors.end());
    for (const TensorInfo& tensor : tensors_) by_name_.emplace(tensor.name, &tensor);
  }

  const ModelConfig& config() const override { return read_me_.config; }
  const TokenizerSpec& tokenizer() const override { return model_->tokenizer(); }
  const std::string& chat_template() const override { return model_->chat_template(); }
  std::string_view format() const override { return model_->format(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const NeuronOwners& neuron_owners() const override { return read_me_.neuron_owners; }
  void Release(ConstTensor tensor) const override {
    model_->Release(tensor);
    const auto bytes = static_cast<size_t>(tensor.rows * tensor.stride);
    for (const MappedFile& file : read_me_.files) file.Release(tensor.data, bytes);
  }

 private:
  const TensorInfo* FindInfo(std::string_view name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }

  std::unique_ptr<ModelFile> model_;
  ModelContents read_me_;
  std::vector<TensorInfo> tensors_;
  absl::flat_hash_map<std::string_view, const TensorInfo*> by_name_;
};

absl::StatusOr<nlohmann::json> ReadJson(const std::string& folder) {
  const auto config_json = OpenText(folder, "config.json", kMaxConfigBytes);
  if (!config_json.ok()) return config_json.status();
  return ParseJsonObject(config_json->bytes(), "config.json");
}

// The configuration of both. The folder repeats the sizes that its masks were made for.
absl::StatusOr<ModelConfig> ReadConfig(const nlohmann::json& json, const ModelConfig& model) {
  JsonFields fields(&json, "config.json: ");
  ModelConfig config = model;
  if (const std::string type = fields.String("model_type"); type != kModelType) {
    fields.Fail(Malformed(fields.FullName("model_type"),
                          absl::StrCat("must be '", ToAbsl(kModelType), "'"), Quoted(type)));
  }
  config.read_me = ReadReadMeConfig(fields);
  const std::pair<std::string_view, int64_t> sizes[] = {
      {"num_hidden_layers", model.num_layers},
      {"hidden_size", model.hidden_size},
      {"intermediate_size", model.ffn_size},
      {"vocab_size", model.vocab_size},
  };
  for (const auto& [name, size] : sizes) {
    const auto stated = fields.OptionalInteger(name, 1, kMaxVocab);
    if (stated.value_or(size) != size) {
      fields.Fail(DoesNotFit(fields.FullName(name), absl::StrCat("must be as the model's, ", size),
                             absl::StrCat(*stated)));
    }
  }
  const double theta = fields.OptionalFloat("rope_theta").value_or(model.rope_theta);
  if (std::fabs(theta - model.rope_theta) > 1e-6 * model.rope_theta) {
    fields.Fail(DoesNotFit(fields.FullName("rope_theta"),
                           absl::StrCat("must be as the model's, ", model.rope_theta),
                           absl::StrCat(theta)));
  }
  if (!fields.status().ok()) return fields.status();
  if (config.read_me.num_experts == 0) {
    return Malformed(fields.FullName("add_cluster_predictor"), "must be true", "false");
  }
  config.read_me.masked = true;
  return config;
}

// What the folder adds to a model of this configuration.
absl::StatusOr<ModelContents> ReadOver(const std::string& folder, const nlohmann::json& json,
                                       const ModelConfig& model) {
  absl::StatusOr<ModelConfig> config = ReadConfig(json, model);
  if (!config.ok()) return config.status();
  ModelContents read_me;
  read_me.config = *std::move(config);
  if (absl::Status status = ReadTensors(folder, read_me); !status.ok()) return status;
  if (absl::Status status = CheckReadMe(read_me.config, read_me.tensors, read_me.neuron_owners);
      !status.ok()) {
    return status;
  }
  for (const TensorInfo& tensor : read_me.tensors) {
    if (IsReadMeTensor(tensor.name)) continue;
    return DoesNotFit(absl::StrCat("tensor ", absl::CHexEscape(tensor.name)),
                      "the model has its own", "another");
  }
  return read_me;
}

}  // namespace

bool IsReadMeOverlay(const std::string& folder) {
  const absl::StatusOr<nlohmann::json> json = ReadJson(folder);
  if (!json.ok()) return false;
  const auto type = json->find("model_type");
  return type != json->end() && *type == std::string(kModelType);
}

absl::StatusOr<ModelContents> ReadReadMeOverlay(const std::string& folder) {
  const absl::StatusOr<nlohmann::json> json = ReadJson(folder);
  if (!json.ok()) return json.status();
  JsonFields fields(&*json, "config.json: ");
  const auto size = [&fields](std::string_view name, int64_t most) {
    return static_cast<int32_t>(fields.Integer(name, 1, most));
  };
  ModelConfig model;
  model.num_layers = size("num_hidden_layers", kMaxLayers);
  model.hidden_size = size("hidden_size", kMaxHiddenSize);
  model.ffn_size = size("intermediate_size", kMaxFfnSize);
  model.vocab_size = size("vocab_size", kMaxVocab);
  model.rope_theta = fields.OptionalFloat("rope_theta").value_or(model.rope_theta);
  if (!fields.status().ok()) return fields.status();
  return ReadOver(folder, *json, model);
}

absl::StatusOr<std::unique_ptr<ModelFile>> LayReadMeOver(std::unique_ptr<ModelFile> model,
                                                         const std::string& folder) {
  if (!model->config().mixture.num_experts.empty() || model->config().read_me.num_experts > 0) {
    return DoesNotFit("read-me", "must be laid over a dense model",
                      Quoted(model->config().architecture));
  }
  // Neurons are taken out of matrices that carry their own scales.
  for (const TensorInfo& tensor : model->tensors()) {
    if (tensor.dtype != DType::kF8E4M3) continue;
    return NotServed("read-me", "must be laid over a model without weights of 8-bit floats",
                     tensor.name);
  }
  const absl::StatusOr<nlohmann::json> json = ReadJson(folder);
  if (!json.ok()) return json.status();
  absl::StatusOr<ModelContents> read_me = ReadOver(folder, *json, model->config());
  if (!read_me.ok()) return read_me.status();
  return std::make_unique<OverlaidModel>(std::move(model), *std::move(read_me));
}

}  // namespace pregate
