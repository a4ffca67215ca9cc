// What shells read to complete `pregate`'s words.
#ifndef PREGATE_SERVER_CONFIG_COMPLETION_H_
#define PREGATE_SERVER_CONFIG_COMPLETION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/config/flag.h"
#include "server/config/help.h"

namespace pregate {

struct CommandFlags {
  CommandSyntax syntax;
  std::vector<Flag> flags;  // read for their words alone, never set
};

// A script for "bash", "zsh" or "fish", to be sourced. INVALID_ARGUMENT for other shells.
absl::StatusOr<std::string> CompletionScript(absl::string_view shell,
                                             const std::vector<CommandFlags>& commands);

}  // namespace pregate

#endif  // PREGATE_SERVER_CONFIG_COMPLETION_H_
