// What a reader of one format makes of its files.
#ifndef PREGATE_ENGINE_MODEL_MODEL_CONTENTS_H_
#define PREGATE_ENGINE_MODEL_MODEL_CONTENTS_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/mapped_file.h"
#include "engine/model/model_config.h"
#include "engine/model/model_file.h"
#include "engine/tokenizer.h"

namespace pregate {

struct ModelContents {
  std::string format;
  ModelConfig config;
  TokenizerSpec tokenizer;
  std::string chat_template;
  std::vector<TensorInfo> tensors;
  NeuronOwners neuron_owners;
  // Memory that `tensors` point into.
  std::vector<MappedFile> files;
  std::vector<std::unique_ptr<char[]>> copies;
};

// The model in the bytes of a GGUF file, which must outlive the result. Errors as ModelFile::Open.
absl::StatusOr<ModelContents> ReadGgufModel(std::string_view file);

// The model in a Hugging Face folder. Errors as ModelFile::Open.
absl::StatusOr<ModelContents> ReadHuggingFaceModel(const std::string& folder);

// The configuration holds together, and the tensors are those that it asks for: none missing, none
// of another shape, none that the forward pass would silently ignore. FAILED_PRECONDITION names the
// tensor.
absl::Status CheckModel(const ModelContents& contents);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_MODEL_CONTENTS_H_
