#include "engine/model/model_file.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/model/file_error.h"
#include "engine/model/mapped_file.h"
#include "engine/model/model_contents.h"

namespace pregate {
namespace {

class OpenedModel final : public ModelFile {
 public:
  explicit OpenedModel(ModelContents contents) : contents_(std::move(contents)) {
    for (const TensorInfo& tensor : contents_.tensors) by_name_.emplace(tensor.name, &tensor);
  }

  const ModelConfig& config() const override { return contents_.config; }
  const TokenizerSpec& tokenizer() const override { return contents_.tokenizer; }
  const std::string& chat_template() const override { return contents_.chat_template; }
  std::string_view format() const override { return contents_.format; }
  const std::vector<TensorInfo>& tensors() const override { return contents_.tensors; }
  const NeuronOwners& neuron_owners() const override { return contents_.neuron_owners; }
  void Release(ConstTensor tensor) const override {
    const auto bytes = static_cast<size_t>(tensor.rows * tensor.stride);
    for (const MappedFile& file : contents_.files) file.Release(tensor.data, bytes);
  }

 private:
  // Experts are tens of thousands of tensors.
  const TensorInfo* FindInfo(std::string_view name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }

  ModelContents contents_;
  absl::flat_hash_map<std::string_view, const TensorInfo*> by_name_;
};

absl::StatusOr<ModelContents> OpenGguf(const std::string& path) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(path, "model");
  if (!file.ok()) return file.status();
  absl::StatusOr<ModelContents> contents = ReadGgufModel(file->bytes());
  if (contents.ok()) contents->files.push_back(*std::move(file));
  return contents;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFile>> ModelFile::Open(const std::string& path) {
  std::error_code ignored;  // what cannot be examined is not a folder; opening it says why
  const bool folder = std::filesystem::is_directory(path, ignored);
  absl::StatusOr<ModelContents> contents = folder ? ReadHuggingFaceModel(path) : OpenGguf(path);
  if (!contents.ok()) return contents.status();
  return std::make_unique<OpenedModel>(*std::move(contents));
}

const TensorInfo* ModelFile::FindInfo(std::string_view name) const {
  for (const TensorInfo& tensor : tensors()) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

ConstTensor ModelFile::Find(std::string_view name) const {
  const TensorInfo* tensor = FindInfo(name);
  if (tensor == nullptr) return {};
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < tensor->shape.size(); ++i) rows *= tensor->shape[i];
  ConstTensor view = MakeView(tensor->data, tensor->dtype, rows, tensor->shape.back());
  if (tensor->stride > 0) view.stride = tensor->stride;
  return view;
}

absl::StatusOr<ConstTensor> ModelFile::Require(std::string_view name, int64_t rows,
                                               int64_t cols) const {
  const ConstTensor tensor = Find(name);
  const std::string rule = absl::StrCat("must be [", rows, ", ", cols, "]");
  if (!tensor) return DoesNotFit(name, rule, "no such tensor");
  if (tensor.rows != rows || tensor.cols != cols) {
    return DoesNotFit(name, rule, absl::StrCat("[", tensor.rows, ", ", tensor.cols, "]"));
  }
  return tensor;
}

}  // namespace pregate
