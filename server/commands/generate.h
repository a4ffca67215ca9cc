// `pregate generate MODEL -p TEXT`.
#ifndef PREGATE_SERVER_COMMANDS_GENERATE_H_
#define PREGATE_SERVER_COMMANDS_GENERATE_H_

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace pregate {

// Answers the prompt on standard output, whole characters as they come, and closes with a newline.
// On a terminal, standard error gets a line of figures. Ctrl-C ends the answer; a second one ends
// the process. Returns the exit status: 0, or 130 when interrupted. Errors as Engine::Create,
// ChatTemplate and ValidateRequest; INTERNAL when a step fails.
absl::StatusOr<int> Generate(const GenerateConfig& config);

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_GENERATE_H_
