// `pregate embed MODEL -p TEXT`.
#ifndef PREGATE_SERVER_COMMANDS_EMBED_H_
#define PREGATE_SERVER_COMMANDS_EMBED_H_

#include "absl/status/status.h"
#include "server/config/config.h"

namespace pregate {

// Writes the vector of a text to standard output, as a JSON array on one line. Errors as LocalModel
// and PlanEmbedding.
absl::Status Embed(const EmbedConfig& config);

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_EMBED_H_
