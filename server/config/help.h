// What `--help` says.
#ifndef PREGATE_SERVER_CONFIG_HELP_H_
#define PREGATE_SERVER_CONFIG_HELP_H_

#include <string>
#include <vector>

#include "server/config/flag.h"

namespace pregate {

struct CommandSyntax {
  std::string name;
  std::string synopsis;  // "MODEL [flags]"
  std::string about;     // one line
  bool takes_file = false;
};

// Every command in one screen. `commands` in the order to show.
std::string UsageText(const std::vector<CommandSyntax>& commands);

// The flags of one command, under their topics where they have some. Unless `all`, those that few
// need are left out, and counted in the last line.
std::string HelpText(const CommandSyntax& command, const std::vector<Flag>& flags, bool all);

// "--max-num-seqs N", "--[no-]enable-prefix-caching".
std::string SpellingOf(const Flag& flag);

// Given by its place on the command line, not by its name.
bool ByPosition(const Flag& flag);

inline constexpr char kConfigFlag[] = "config";

}  // namespace pregate

#endif  // PREGATE_SERVER_CONFIG_HELP_H_
