// What `pregate inspect` prints about a model.
#ifndef PREGATE_ENGINE_MODEL_INSPECT_H_
#define PREGATE_ENGINE_MODEL_INSPECT_H_

#include <string>

#include "absl/status/statusor.h"

namespace pregate {

// Opens the model at `path` and describes it in lines of readable text: format, sizes, tokenizer,
// every tensor, totals by element type. A folder of --read-me is described, too: the model that it
// was made for, its experts, its router, and the digest of its file. Errors as ModelFile::Open.
absl::StatusOr<std::string> DescribeModel(const std::string& path);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_INSPECT_H_
