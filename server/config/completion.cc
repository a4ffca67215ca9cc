#include "server/config/completion.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace pregate {
namespace {

enum class ValueKind { kNone, kWords, kFile, kOther };

ValueKind KindOf(const Flag& flag) {
  if (flag.is_switch()) return ValueKind::kNone;
  if (flag.value.find('|') != std::string::npos) return ValueKind::kWords;
  const bool file = flag.value == "FILE" || flag.value == "FOLDER" || ByPosition(flag);
  return file ? ValueKind::kFile : ValueKind::kOther;
}

std::string WordsOf(const Flag& flag) { return absl::StrReplaceAll(flag.value, {{"|", " "}}); }

// The flag that --config is, of commands that take one.
Flag ConfigFlag() {
  Flag flag;
  flag.name = std::string(kConfigFlag);
  flag.value = std::string("FILE");
  flag.help = std::string("file with flags as keys");
  return flag;
}

// By their names on the command line: all that a command knows.
std::vector<Flag> NamedFlags(const CommandFlags& command) {
  std::vector<Flag> named;
  for (const Flag& flag : command.flags) {
    if (!ByPosition(flag)) named.push_back(flag);
  }
  if (command.syntax.takes_file) named.push_back(ConfigFlag());
  Flag help;
  help.name = std::string("help");
  help.help = std::string("list the flags");
  named.push_back(help);
  return named;
}

std::vector<std::string> Spellings(const Flag& flag) {
  std::vector<std::string> spellings = {absl::StrCat("--", flag.name)};
  if (flag.is_switch() && flag.default_value == "true") {
    spellings.push_back(absl::StrCat("--no-", flag.name));
  }
  if (!flag.short_name.empty()) spellings.push_back(absl::StrCat("-", flag.short_name));
  return spellings;
}

// --- bash: one function that looks at the command, the word before and the word begun ---

std::string BashScript(const std::vector<CommandFlags>& commands) {
  std::string names, values, flags;
  for (const CommandFlags& command : commands) {
    absl::StrAppend(&names, names.empty() ? "" : " ", command.syntax.name);
    std::vector<std::string> all;
    for (const Flag& flag : NamedFlags(command)) {
      const std::vector<std::string> spellings = Spellings(flag);
      all.insert(all.end(), spellings.begin(), spellings.end());
      std::string reply;
      if (KindOf(flag) == ValueKind::kNone) continue;
      if (KindOf(flag) == ValueKind::kWords) {
        reply = absl::StrCat("COMPREPLY=($(compgen -W '", WordsOf(flag), "' -- \"$begun\"))");
      } else if (KindOf(flag) == ValueKind::kFile) {
        reply = std::string("COMPREPLY=($(compgen -f -- \"$begun\"))");
      } else {
        reply = std::string(":");
      }
      for (const std::string& spelling : spellings) {
        absl::StrAppend(&values, "    '", command.syntax.name, " ", spelling, "') ", reply,
                        "; return ;;\n");
      }
    }
    absl::StrAppend(&flags, "    ", command.syntax.name, ") flags='", absl::StrJoin(all, " "),
                    "' ;;\n");
  }
  return absl::StrCat(
      "# bash completion for pregate; source it, or put it into bash-completion's folder.\n"
      "_pregate() {\n"
      "  local IFS=$' \\n\\t' begun=${COMP_WORDS[COMP_CWORD]} flags=''\n"
      "  COMPREPLY=()\n"
      "  if ((COMP_CWORD == 1)); then\n"
      "    COMPREPLY=($(compgen -W '",
      names,
      " --help --version' -- \"$begun\"))\n"
      "    return\n"
      "  fi\n"
      "  case \"${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD-1]}\" in\n",
      values,
      "    'completion completion') COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$begun\")); "
      "return "
      ";;\n"
      "  esac\n"
      "  case ${COMP_WORDS[1]} in\n",
      flags,
      "  esac\n"
      "  if [[ $begun == -* ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$flags\" -- \"$begun\"))\n"
      "  else\n"
      "    COMPREPLY=($(compgen -f -- \"$begun\"))\n"
      "  fi\n"
      "}\n"
      "complete -o filenames -F _pregate pregate\n");
}

// --- zsh: an _arguments call for each command ---

// Inside single quotes, where a description ends at the first ']' or ':'.
std::string ZshText(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"'", "'\\''"}, {"[", "\\["}, {"]", "\\]"}, {":", "\\:"}, {"\\", "\\\\"}});
}

std::string ZshAction(const Flag& flag) {
  switch (KindOf(flag)) {
    case ValueKind::kNone:
      return "";
    case ValueKind::kWords:
      return absl::StrCat(":word:(", WordsOf(flag), ")");
    case ValueKind::kFile:
      return ":file:_files";
    case ValueKind::kOther:
      break;
  }
  return absl::StrCat(":", ZshText(flag.value), ":");
}

std::string ZshScript(const std::vector<CommandFlags>& commands) {
  std::string names, cases;
  for (const CommandFlags& command : commands) {
    absl::StrAppend(&names, "    '", command.syntax.name, ":", ZshText(command.syntax.about),
                    "'\n");
    absl::StrAppend(&cases, "    ", command.syntax.name, ")\n      _arguments \\\n");
    for (const Flag& flag : NamedFlags(command)) {
      for (const std::string& spelling : Spellings(flag)) {
        absl::StrAppend(&cases, "        '", spelling, "[", ZshText(flag.help), "]",
                        ZshAction(flag), "' \\\n");
      }
    }
    const bool shells = command.syntax.name == "completion";
    absl::StrAppend(&cases, "        '1:", shells ? "shell:(bash zsh fish)" : "file:_files",
                    "'\n      ;;\n");
  }
  return absl::StrCat(
      "#compdef pregate\n"
      "# zsh completion for pregate; source it, or put it into $fpath as _pregate.\n"
      "_pregate() {\n"
      "  local -a commands\n"
      "  commands=(\n",
      names,
      "  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    return\n"
      "  fi\n"
      "  shift words\n"
      "  (( CURRENT-- ))\n"
      "  case $words[1] in\n",
      cases,
      "  esac\n"
      "}\n"
      "if [[ ${funcstack[1]} == _pregate ]]; then\n"
      "  _pregate \"$@\"\n"
      "elif (( $+functions[compdef] )); then\n"
      "  compdef _pregate pregate\n"
      "fi\n");
}

// --- fish: one line for each word ---

std::string FishText(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

std::string FishScript(const std::vector<CommandFlags>& commands) {
  std::string script =
      "# fish completion for pregate; source it, or put it into ~/.config/fish/completions.\n"
      "complete -c pregate -n __fish_use_subcommand -f\n";
  for (const CommandFlags& command : commands) {
    absl::StrAppend(&script, "complete -c pregate -n __fish_use_subcommand -a ",
                    command.syntax.name, " -d ", FishText(command.syntax.about), "\n");
    const std::string begin = absl::StrCat("complete -c pregate -n '__fish_seen_subcommand_from ",
                                           command.syntax.name, "'");
    if (command.syntax.name == "completion") {
      absl::StrAppend(&script, begin, " -f -a 'bash zsh fish'\n");
    }
    for (const Flag& flag : NamedFlags(command)) {
      const ValueKind kind = KindOf(flag);
      std::string value;
      if (kind == ValueKind::kWords) value = absl::StrCat(" -x -a '", WordsOf(flag), "'");
      if (kind == ValueKind::kFile) value = std::string(" -r -F");
      if (kind == ValueKind::kOther) value = std::string(" -x");
      for (const std::string& spelling : Spellings(flag)) {
        const bool is_long = spelling[1] == '-';
        absl::StrAppend(&script, begin, is_long ? " -l " : " -s ", spelling.substr(is_long ? 2 : 1),
                        value, " -d ", FishText(flag.help), "\n");
      }
    }
  }
  return script;
}

}  // namespace

absl::StatusOr<std::string> CompletionScript(absl::string_view shell,
                                             const std::vector<CommandFlags>& commands) {
  if (shell == "bash") return BashScript(commands);
  if (shell == "zsh") return ZshScript(commands);
  if (shell == "fish") return FishScript(commands);
  return absl::InvalidArgumentError(
      absl::StrCat("completion: must be bash, zsh or fish; got ", Shown(shell)));
}

}  // namespace pregate
