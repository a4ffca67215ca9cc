#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/config/config.h"
#include "server/config/config_file.h"
#include "server/config/flag_lists.h"

namespace pregate {
namespace {

using Values = std::map<std::string, std::string>;

constexpr char kConfigFlag[] = "config";
constexpr char kUsage[] =
    "pregate: an LLM inference server\n"
    "\n"
    "  pregate serve MODEL [flags]         answer over gRPC\n"
    "  pregate generate MODEL -p TEXT      one answer in the terminal, without a server\n"
    "  pregate bench MODEL                 how fast prefill and decode are\n"
    "  pregate inspect MODEL               what is in a model file\n"
    "  pregate simulate TRACE              the scheduler in virtual time, all policies\n"
    "  pregate --version\n"
    "\n"
    "MODEL is a GGUF file or a Hugging Face folder; TRACE a file of `serve --record-trace`, or\n"
    "synthetic. `pregate COMMAND --help` lists the flags.\n";

bool ByPosition(const Flag& flag) { return flag.name == kModelFlag || flag.name == kTraceFlag; }

// "--max-num-seqs N", "--[no-]enable-prefix-caching".
std::string Spelling(const Flag& flag) {
  if (!flag.is_switch()) return absl::StrCat("--", flag.name, " ", flag.value);
  return absl::StrCat("--", flag.default_value == "true" ? "[no-]" : "", flag.name);
}

std::string HelpText(absl::string_view command, absl::string_view synopsis,
                     const std::vector<Flag>& flags, bool takes_file) {
  std::string help = absl::StrCat("pregate ", command, " ", synopsis, "\n\n");
  for (const Flag& flag : flags) {
    if (ByPosition(flag)) continue;
    const std::string left = absl::StrCat(
        flag.short_name.empty() ? "" : absl::StrCat("-", flag.short_name, ", "), Spelling(flag));
    absl::StrAppendFormat(&help, "  %-36s %s%s\n", left, flag.help,
                          flag.default_value.empty() || flag.is_switch()
                              ? ""
                              : absl::StrCat(" (", flag.default_value, ")"));
  }
  if (takes_file) {
    absl::StrAppendFormat(&help, "  %-36s %s\n", "--config FILE.yaml", "file with flags as keys");
    absl::StrAppend(
        &help,
        "\nEach flag is also a key of the file and a variable, PREGATE_HOST; flags win, "
        "then variables.\n");
  }
  return help;
}

// The values on the command line of one command, by flag name.
class CommandLineReader {
 public:
  CommandLineReader(CLI::App* app, const std::vector<Flag>& flags, bool takes_file) : app_(app) {
    app->set_help_flag("-h,--help");
    app->allow_extras();
    for (const Flag& flag : flags) {
      if (flag.is_switch()) {
        const std::string names = absl::StrCat("--", flag.name, ",!--no-", flag.name);
        switches_.emplace_back(flag.name, app->add_flag(names));
        continue;
      }
      std::string names = ByPosition(flag) ? flag.name : absl::StrCat("--", flag.name);
      if (!flag.short_name.empty()) absl::StrAppend(&names, ",-", flag.short_name);
      Add(flag.name, names);
    }
    if (takes_file) Add(kConfigFlag, absl::StrCat("--", kConfigFlag));
  }

  // Call after the parse. INVALID_ARGUMENT on words that are no flag.
  absl::StatusOr<Values> Read(const std::vector<Flag>& flags) const {
    for (const std::string& word : app_->remaining()) {
      absl::string_view name = word;
      if (!absl::ConsumePrefix(&name, "-")) {
        return absl::InvalidArgumentError(
            absl::StrCat(flags.front().value, ": must be one path; got ", Shown(word), " as well"));
      }
      absl::ConsumePrefix(&name, "-");
      return UnknownName(name.substr(0, name.find('=')), "flag", flags);
    }
    Values values;
    for (const auto& [name, option] : options_) {
      if (option->count() > 0) values[name] = option->results().back();
    }
    for (const auto& [name, option] : switches_) {
      if (option->count() > 0) values[name] = option->results().back();
    }
    return values;
  }

 private:
  void Add(const std::string& name, const std::string& names) {
    CLI::Option* option =
        app_->add_option(names)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    options_.emplace_back(name, option);
  }

  CLI::App* app_;
  std::vector<std::pair<std::string, CLI::Option*>> options_;
  std::vector<std::pair<std::string, CLI::Option*>> switches_;
};

// Sets each flag from the first source that has it: command line, environment, file.
absl::Status ApplySources(const Values& command_line, const GetEnv& get_env, bool takes_file,
                          const std::vector<Flag>& flags) {
  Values file_values;
  std::optional<std::string> path;
  if (const auto named = command_line.find(kConfigFlag); named != command_line.end()) {
    path = named->second;
  } else if (takes_file) {
    path = get_env("PREGATE_CONFIG");
  }
  if (path.has_value()) {
    absl::StatusOr<Values> read = ReadConfigFile(*path, flags);
    if (!read.ok()) return read.status();
    file_values = *std::move(read);
  }
  for (const Flag& flag : flags) {
    absl::Status status;
    if (auto given = command_line.find(flag.name); given != command_line.end()) {
      status = flag.set(given->second);
    } else if (auto variable = get_env(flag.environment_name()); variable.has_value()) {
      status = flag.set(*variable);
      if (!status.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat(status.message(), " (from ", flag.environment_name(), ")"));
      }
    } else if (auto entry = file_values.find(flag.name); entry != file_values.end()) {
      status = flag.set(entry->second);
      if (!status.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat(status.message(), " (from ", Shown(*path), ")"));
      }
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status RequireGiven(absl::string_view name, const std::string& value) {
  if (!value.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": must be given; got none"));
}

// The rules that join several flags.
absl::Status CheckServe(const ServeConfig& config) {
  const std::pair<const char*, int> ports[] = {{"http-port", config.http_port},
                                               {"grpc-port", config.grpc_port},
                                               {"metrics-port", config.metrics_port}};
  for (const auto& [later, port] : ports) {
    for (const auto& [earlier, other] : ports) {
      if (earlier == later) break;
      if (port == 0 || port != other) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(later, ": must differ from ", earlier, "; got ", port));
    }
  }
  if (config.engine.max_num_batched_tokens < config.engine.max_num_seqs) {
    return absl::InvalidArgumentError(
        absl::StrCat("max-num-batched-tokens: must be at least max-num-seqs (",
                     config.engine.max_num_seqs, "); got ", config.engine.max_num_batched_tokens));
  }
  return RequireGiven("MODEL", config.model);
}

absl::Status CheckGenerate(const GenerateConfig& config) {
  if (config.raw && !(config.system.empty() && config.chat_template.empty())) {
    return absl::InvalidArgumentError(
        "raw: must be without --system and --chat-template; got one of them");
  }
  absl::Status status = RequireGiven("MODEL", config.model);
  return status.ok() ? RequireGiven("prompt", config.prompt) : status;
}

absl::Status CheckInspect(const InspectConfig& config) {
  return RequireGiven("MODEL", config.model);
}

absl::Status CheckBench(const BenchConfig& config) { return RequireGiven("MODEL", config.model); }

absl::Status CheckSimulate(const SimulateConfig& config) {
  return RequireGiven("TRACE", config.simulation.trace);
}

struct CommandSyntax {
  const char* name;
  const char* synopsis;
  bool takes_file;
};

template <typename Config>
absl::StatusOr<Command> ParseCommand(const CommandSyntax& syntax,
                                     std::vector<Flag> (*make_flags)(Config*),
                                     absl::Status (*check)(const Config&),
                                     std::vector<std::string> words, const GetEnv& get_env) {
  Config config;
  const std::vector<Flag> flags = make_flags(&config);
  CLI::App app;
  CommandLineReader reader(&app, flags, syntax.takes_file);
  std::reverse(words.begin(), words.end());  // the library reads from the back
  try {
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    return PrintAndExit{HelpText(syntax.name, syntax.synopsis, flags, syntax.takes_file)};
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(error.what());
  }
  const absl::StatusOr<Values> values = reader.Read(flags);
  if (!values.ok()) return values.status();
  absl::Status status = ApplySources(*values, get_env, syntax.takes_file, flags);
  if (status.ok()) status = check(config);
  if (!status.ok()) return status;
  return Command(std::move(config));
}

}  // namespace

std::optional<std::string> ProcessEnv(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

absl::StatusOr<Command> ParseCommandLine(int argc, const char* const* argv, const GetEnv& get_env) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (words.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("command: must be given; got none\n\n", kUsage));
  }
  const std::string command = words.front();
  words.erase(words.begin());
  if (command == "-h" || command == "--help") return PrintAndExit{kUsage};
  if (command == "--version") return PrintAndExit{"pregate " PREGATE_VERSION "\n"};
  if (command == "serve") {
    return ParseCommand({"serve", "MODEL [flags]", true}, ServeFlags, CheckServe, std::move(words),
                        get_env);
  }
  if (command == "generate") {
    return ParseCommand({"generate", "MODEL -p TEXT [flags]", false}, GenerateFlags, CheckGenerate,
                        std::move(words), get_env);
  }
  if (command == "inspect") {
    return ParseCommand({"inspect", "MODEL", false}, InspectFlags, CheckInspect, std::move(words),
                        get_env);
  }
  if (command == "bench") {
    return ParseCommand({"bench", "MODEL [flags]", false}, BenchFlags, CheckBench, std::move(words),
                        get_env);
  }
  if (command == "simulate") {
    return ParseCommand({"simulate", "TRACE|synthetic [flags]", false}, SimulateFlags,
                        CheckSimulate, std::move(words), get_env);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("command: must be serve, generate, bench, inspect or simulate; got ",
                   Shown(command), "\n\n", kUsage));
}

std::string FlagsMarkdown() {
  ServeConfig config;
  std::string table = "| flag | default | what it is |\n| --- | --- | --- |\n";
  for (const Flag& flag : ServeFlags(&config)) {
    if (flag.name == kModelFlag) continue;
    absl::StrAppend(&table, "| `", absl::StrReplaceAll(Spelling(flag), {{"|", "\\|"}}), "` | ",
                    flag.default_value, " | ", flag.help, " |\n");
  }
  absl::StrAppend(&table, "| `--", kConfigFlag, " FILE.yaml` |  | file with flags as keys |\n");
  return table;
}

}  // namespace pregate
