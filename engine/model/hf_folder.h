// The files of a Hugging Face folder.
#ifndef PREGATE_ENGINE_MODEL_HF_FOLDER_H_
#define PREGATE_ENGINE_MODEL_HF_FOLDER_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/mapped_file.h"
#include "engine/model/model_contents.h"

namespace pregate {

inline constexpr size_t kMaxConfigBytes = size_t{16} << 20;

// The text of a file of the folder. NOT_FOUND when it is not there.
absl::StatusOr<MappedFile> OpenText(const std::string& folder, std::string_view name,
                                    size_t max_bytes);

// Adds the tensors of model.safetensors, or of the shards that its index names, to `contents`,
// under their canonical names. contents.config must be known. Errors as ModelFile::Open.
absl::Status ReadTensors(const std::string& folder, ModelContents& contents);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_HF_FOLDER_H_
