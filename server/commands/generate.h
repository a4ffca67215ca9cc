// `pregate generate MODEL -p TEXT`.
#ifndef PREGATE_SERVER_COMMANDS_GENERATE_H_
#define PREGATE_SERVER_COMMANDS_GENERATE_H_

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace pregate {

// Answers the prompt on standard output, whole characters as they come, and closes with a newline;
// or with one JSON object, when the answer has ended. On a terminal, standard error gets a line of
// figures. Ctrl-C ends the answer; a second one ends the process. Returns the exit status: 0, 1
// when whoever reads the output has left, or 130 when interrupted. Errors as LocalModel.
absl::StatusOr<int> Generate(const GenerateConfig& config);

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_GENERATE_H_
