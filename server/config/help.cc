#include "server/config/help.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/config/flag_lists.h"

namespace pregate {
namespace {

void AppendFlag(const Flag& flag, std::string* help) {
  const std::string left = absl::StrCat(
      flag.short_name.empty() ? "" : absl::StrCat("-", flag.short_name, ", "), SpellingOf(flag));
  const bool shows_default = !flag.default_value.empty() && !flag.is_switch();
  absl::StrAppendFormat(help, "  %-35s %s%s\n", left, flag.help,
                        shows_default ? absl::StrCat(" (", flag.default_value, ")") : "");
}

}  // namespace

std::string UsageText(const std::vector<CommandSyntax>& commands) {
  std::string usage = "pregate: an LLM inference server\n\n";
  for (const CommandSyntax& command : commands) {
    absl::StrAppendFormat(&usage, "  pregate %-33s %s\n",
                          absl::StrCat(command.name, " ", command.synopsis), command.about);
  }
  absl::StrAppend(
      &usage,
      "  pregate --version\n"
      "\n"
      "MODEL is a GGUF file or a Hugging Face folder; TRACE a file of `serve --record-trace`, or\n"
      "synthetic. `pregate COMMAND --help` lists the flags.\n");
  return usage;
}

std::string HelpText(const CommandSyntax& command, const std::vector<Flag>& flags, bool all) {
  std::string help = absl::StrCat("pregate ", command.name, " ", command.synopsis, "\n", "\n");
  std::string topic;
  int hidden = 0;
  for (const Flag& flag : flags) {
    if (ByPosition(flag)) continue;
    if (flag.rarely_needed && !all) {
      ++hidden;
      continue;
    }
    if (flag.topic != topic) absl::StrAppend(&help, flag.topic, ":\n");
    topic = flag.topic;
    AppendFlag(flag, &help);
  }
  if (command.takes_file) {
    absl::StrAppendFormat(&help, "  %-35s %s\n", "--config FILE.yaml", "file with flags as keys");
    absl::StrAppend(&help,
                    "\nEach flag is also a key of the file and a variable, PREGATE_HOST; flags "
                    "win, then variables.\n");
  }
  if (hidden > 0) {
    absl::StrAppend(&help, "`pregate ", command.name, " --help-all` lists ", hidden, " more.\n");
  }
  return help;
}

std::string SpellingOf(const Flag& flag) {
  if (!flag.is_switch()) return absl::StrCat("--", flag.name, " ", flag.value);
  return absl::StrCat("--", flag.default_value == "true" ? "[no-]" : "", flag.name);
}

bool ByPosition(const Flag& flag) { return flag.name == kModelFlag || flag.name == kTraceFlag; }

}  // namespace pregate
