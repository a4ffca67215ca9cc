// `pregate chat MODEL`.
#ifndef PREGATE_SERVER_COMMANDS_CHAT_H_
#define PREGATE_SERVER_COMMANDS_CHAT_H_

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace pregate {

// A conversation: lines of standard input are what the user says, answers come on standard output
// as they are generated. What has been said stays in the prefix cache, so that a turn computes only
// what is new. A line that begins with '/' is a command (/help). Ctrl-C ends an answer, Ctrl-D the
// conversation. Returns the exit status: 0, 1 when whoever reads the output has left, or 130 when
// interrupted and the input is no terminal. Errors as LocalModel, before the first line is read.
absl::StatusOr<int> Chat(const ChatConfig& config);

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_CHAT_H_
