// `pregate inspect MODEL`.
#ifndef PREGATE_SERVER_COMMANDS_INSPECT_H_
#define PREGATE_SERVER_COMMANDS_INSPECT_H_

#include "absl/status/status.h"
#include "server/config/config.h"

namespace pregate {

// Writes what is in the model to standard output. Errors as DescribeModel.
absl::Status Inspect(const InspectConfig& config);

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_INSPECT_H_
