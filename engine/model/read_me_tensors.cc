#include "engine/model/read_me_tensors.h"

#include <algorithm>
#include <charconv>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/model/file_error.h"
#include "engine/model/model_limits.h"

namespace pregate {
namespace {

constexpr std::string_view kRouter = "cluster_predictor.";
constexpr std::string_view kResidual = "residual";
constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kMatrices[] = {"gate", "up", "down"};

bool ConsumePrefix(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

bool ConsumeSuffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

// A number without sign and leading zeros, of four digits at most.
std::optional<int64_t> ConsumeNumber(std::string_view& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto digits = static_cast<size_t>(end - text.data());
  const bool unusual = text.starts_with('-') || (text.starts_with('0') && digits > 1);
  if (error != std::errc() || unusual || digits > 4) return std::nullopt;
  text.remove_prefix(digits);
  return number;
}

// "model.layers.3." of a name, whose rest stays.
std::optional<int64_t> ConsumeLayer(std::string_view& name) {
  if (!ConsumePrefix(name, "model.layers.")) return std::nullopt;
  const std::optional<int64_t> layer = ConsumeNumber(name);
  return ConsumePrefix(name, ".") ? layer : std::nullopt;
}

// An expert's number or "residual".
bool IsPart(std::string_view text) {
  return text == kResidual || (ConsumeNumber(text) && text.empty());
}

std::string PartTensor(int64_t layer, std::string_view matrix, std::string_view part) {
  return absl::StrCat("blk.", layer, ".ffn_", ToAbsl(matrix), ".", ToAbsl(part), ToAbsl(kWeight));
}

std::string Field(std::string_view tensor) {
  return absl::StrCat("tensor ", absl::CHexEscape(ToAbsl(tensor)));
}

std::string Shape(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t dim : shape) absl::StrAppend(&text, text.empty() ? "[" : ", ", dim);
  return text + "]";
}

bool IsPlain(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

class Checker {
 public:
  Checker(const ModelConfig& config, absl::Span<const TensorInfo> tensors)
      : config_(config), router_(config.read_me) {
    for (const TensorInfo& tensor : tensors) {
      if (IsReadMeTensor(tensor.name)) unchecked_.emplace(tensor.name, &tensor);
    }
  }

  void CheckRouter() {
    const int64_t width = router_.embedding_dim;
    if (!router_.frozen_embedding) Router("embed.weight", {config_.vocab_size, width});
    for (int32_t i = 0; i < router_.num_layers; ++i) {
      const auto square = [&](std::string_view name) {
        Router(absl::StrCat(ToAbsl(name), "_", i, ".weight"), {width, width});
        Router(absl::StrCat(ToAbsl(name), "_", i, ".bias"), {width});
      };
      if (router_.attends) {
        Router(absl::StrCat("input_layernorm_", i, ".weight"), {width});
        for (const std::string_view name : {"q_proj", "k_proj", "v_proj", "o_proj"}) square(name);
      }
      Router(absl::StrCat("post_attention_layernorm_", i, ".weight"), {width});
      square("proj_1");
      square("proj_2");
    }
    Router("out_layernorm.weight", {width});
    Router("proj_out.weight", {router_.num_experts, width});
    Router("proj_out.bias", {router_.num_experts});
  }

  // Experts as matrices of their own.
  void CheckParts() {
    for (int32_t layer = 0; layer < config_.num_layers && status_.ok(); ++layer) {
      types_.clear();
      for (int32_t e = 0; e < router_.num_experts; ++e) Part(layer, absl::StrCat(e));
      const bool residual = unchecked_.contains(PartTensor(layer, "gate", kResidual));
      if (residual) Part(layer, kResidual);
    }
  }

  absl::Status Finish() {
    if (!status_.ok() || unchecked_.empty()) return status_;
    // The first by name, so that the message does not depend on the order of a hash.
    const auto first =
        std::min_element(unchecked_.begin(), unchecked_.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
    return DoesNotFit(Field(first->first), "the model has no such tensor",
                      Shape(first->second->shape));
  }

 private:
  void Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

  // Takes a tensor of a plain type from the unchecked ones; nullptr, and an error, when there is
  // none.
  const TensorInfo* Take(const std::string& name) {
    if (!status_.ok()) return nullptr;
    const auto found = unchecked_.find(name);
    if (found == unchecked_.end()) {
      Fail(DoesNotFit(Field(name), "must be given", "no such tensor"));
      return nullptr;
    }
    const TensorInfo* tensor = found->second;
    unchecked_.erase(found);
    if (!IsPlain(tensor->dtype)) {
      Fail(NotServed(Field(name), "type must be F32, F16 or BF16",
                     GetDTypeInfo(tensor->dtype).name));
    }
    return tensor;
  }

  void CheckShape(const TensorInfo& tensor, const std::vector<int64_t>& shape) {
    if (tensor.shape == shape) return;
    Fail(DoesNotFit(Field(tensor.name), absl::StrCat("must be ", Shape(shape)),
                    Shape(tensor.shape)));
  }

  void Router(std::string_view name, const std::vector<int64_t>& shape) {
    const TensorInfo* tensor = Take(absl::StrCat(ToAbsl(kRouter), ToAbsl(name)));
    if (tensor != nullptr) CheckShape(*tensor, shape);
  }

  // The three matrices of an expert or the residual. The width is what the first one says; neurons
  // of different parts are compared, so their types must be one for each matrix of a layer.
  void Part(int32_t layer, std::string_view part) {
    int64_t width = 0;
    for (size_t m = 0; m < std::size(kMatrices); ++m) {
      const TensorInfo* tensor = Take(PartTensor(layer, kMatrices[m], part));
      if (tensor == nullptr) return;
      if (m == 0) width = std::min(tensor->shape.front(), kMaxFfnSize);
      const bool down = m + 1 == std::size(kMatrices);
      CheckShape(*tensor, down ? std::vector<int64_t>{config_.hidden_size, width}
                               : std::vector<int64_t>{width, config_.hidden_size});
      if (types_.size() <= m) types_.push_back(tensor->dtype);
      if (tensor->dtype != types_[m]) {
        Fail(DoesNotFit(Field(tensor->name),
                        absl::StrCat("must have the type of the layer's others, ",
                                     ToAbsl(GetDTypeInfo(types_[m]).name)),
                        GetDTypeInfo(tensor->dtype).name));
      }
    }
  }

  const ModelConfig& config_;
  const ReadMeConfig& router_;
  absl::flat_hash_map<std::string_view, const TensorInfo*> unchecked_;
  std::vector<DType> types_;  // of the layer's gate, up and down matrices
  absl::Status status_;
};

absl::Status CheckMasks(const ModelConfig& config, const NeuronOwners& owners) {
  for (size_t layer = 0; layer < static_cast<size_t>(config.num_layers); ++layer) {
    if (layer < owners.size() && !owners[layer].empty()) continue;
    return DoesNotFit(absl::StrCat("tensor model.layers.", layer, ".mlp.expert_masks"),
                      "must be given", "no such tensor");
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<std::string> ReadMeTensorName(std::string_view name) {
  if (name.starts_with(kRouter)) return std::string(name);
  const std::optional<int64_t> layer = ConsumeLayer(name);
  if (!layer || !ConsumePrefix(name, "moe.") || !ConsumeSuffix(name, kWeight)) return std::nullopt;
  for (const std::string_view matrix : kMatrices) {
    std::string_view part = name;
    if (!ConsumePrefix(part, matrix) || !ConsumePrefix(part, "_proj_")) continue;
    if (IsPart(part)) return PartTensor(*layer, matrix, part);
  }
  return std::nullopt;
}

bool IsReadMeTensor(std::string_view name) {
  if (name.starts_with(kRouter)) return true;
  if (!ConsumePrefix(name, "blk.") || !ConsumeNumber(name) || !ConsumePrefix(name, ".ffn_") ||
      !ConsumeSuffix(name, kWeight)) {
    return false;
  }
  return std::any_of(std::begin(kMatrices), std::end(kMatrices), [&](std::string_view matrix) {
    std::string_view part = name;
    return ConsumePrefix(part, matrix) && ConsumePrefix(part, ".") && IsPart(part);
  });
}

std::optional<int64_t> ExpertMaskLayer(std::string_view name) {
  const std::optional<int64_t> layer = ConsumeLayer(name);
  return name == "mlp.expert_masks" ? layer : std::nullopt;
}

absl::Status ReadExpertMasks(const SafetensorsTensor& tensor, const ModelConfig& config,
                             int64_t layer, NeuronOwners* owners) {
  const std::string field = Field(tensor.name);
  const int64_t experts = config.read_me.num_experts, neurons = config.ffn_size;
  const int64_t bytes = (neurons + 7) / 8;
  if (layer >= config.num_layers) {
    return DoesNotFit(field, absl::StrCat("the model has ", config.num_layers, " layers"),
                      absl::StrCat(layer));
  }
  if (tensor.type != "U8") return DoesNotFit(field, "type must be U8", Quoted(tensor.type));
  if (tensor.shape != std::vector<int64_t>{experts, bytes}) {
    return DoesNotFit(field, absl::StrCat("must be [", experts, ", ", bytes, "]"),
                      Shape(tensor.shape));
  }
  owners->resize(static_cast<size_t>(config.num_layers));
  std::vector<uint64_t>& sets = (*owners)[static_cast<size_t>(layer)];
  if (!sets.empty()) return Malformed(field, "tensors must be unique", "a second one");
  sets.assign(static_cast<size_t>(neurons), 0);
  for (int64_t e = 0; e < experts; ++e) {
    bool owns_any = false;
    for (int64_t f = 0; f < 8 * bytes; ++f) {
      const auto byte = static_cast<uint8_t>(tensor.data[static_cast<size_t>(e * bytes + f / 8)]);
      if ((byte >> f % 8 & 1) == 0) continue;
      if (f >= neurons) {
        return Malformed(field, absl::StrCat("must not name neurons beyond ", neurons - 1),
                         absl::StrCat(f));
      }
      sets[static_cast<size_t>(f)] |= uint64_t{1} << e;
      owns_any = true;
    }
    if (!owns_any) {
      return Malformed(field, "every expert must own a neuron", absl::StrCat("none for ", e));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckReadMe(const ModelConfig& config, absl::Span<const TensorInfo> tensors,
                         const NeuronOwners& owners) {
  Checker checker(config, tensors);
  checker.CheckRouter();
  if (!config.read_me.masked) checker.CheckParts();
  if (absl::Status status = checker.Finish(); !status.ok()) return status;
  return config.read_me.masked ? CheckMasks(config, owners) : absl::OkStatus();
}

}  // namespace pregate
