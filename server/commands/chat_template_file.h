// The file of --chat-template.
#ifndef PREGATE_SERVER_COMMANDS_CHAT_TEMPLATE_FILE_H_
#define PREGATE_SERVER_COMMANDS_CHAT_TEMPLATE_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace pregate {

// The text of the file at `path`, of at most 1 MiB; "" when `path` is empty. INVALID_ARGUMENT when
// it cannot be read.
absl::StatusOr<std::string> ReadChatTemplate(const std::string& path);

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_CHAT_TEMPLATE_FILE_H_
