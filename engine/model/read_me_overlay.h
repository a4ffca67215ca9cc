// A dense model with the router and the experts of a Read-ME folder laid over it.
#ifndef PREGATE_ENGINE_MODEL_READ_ME_OVERLAY_H_
#define PREGATE_ENGINE_MODEL_READ_ME_OVERLAY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/model_contents.h"
#include "engine/model/model_file.h"

namespace pregate {

// Whether the folder is one to lay over a model, and no model itself.
bool IsReadMeOverlay(const std::string& folder);

// The folder without its model, for which the sizes that it repeats in its config.json stand: of
// `config` they and the router's fields are set. Errors as LayReadMeOver; INVALID_ARGUMENT also
// when a size is not repeated.
absl::StatusOr<ModelContents> ReadReadMeOverlay(const std::string& folder);

// The folder has a config.json, with the router's fields and the sizes of the model that it was
// made for, and safetensors with the router's tensors and masks over the neurons of `model`, which
// may be of any format. Errors as ModelFile::Open; FAILED_PRECONDITION also when the two do not
// fit.
absl::StatusOr<std::unique_ptr<ModelFile>> LayReadMeOver(std::unique_ptr<ModelFile> model,
                                                         const std::string& folder);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_READ_ME_OVERLAY_H_
