#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/config/completion.h"
#include "server/config/config.h"
#include "server/config/config_file.h"
#include "server/config/flag_lists.h"
#include "server/config/help.h"

namespace pregate {
namespace {

using Values = std::map<std::string, std::string>;

// The values on the command line of one command, by flag name.
class CommandLineReader {
 public:
  CommandLineReader(CLI::App* app, const std::vector<Flag>& flags, bool takes_file) : app_(app) {
    app->set_help_flag("-h,--help");
    help_all_ = app->add_flag("--help-all");
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

  bool wants_all_help() const { return help_all_->count() > 0; }

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
  CLI::Option* help_all_;
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
  const std::pair<const char*, int> ports[] = {{"port", config.http_port},
                                               {"grpc-port", config.grpc_port},
                                               {"metrics-port", config.metrics_port},
                                               {"health-port", config.health_port}};
  for (const auto& [later, port] : ports) {
    for (const auto& [earlier, other] : ports) {
      if (earlier == later) break;
      if (port <= 0 || port != other) continue;
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

absl::Status CheckChat(const ChatConfig& config) { return RequireGiven("MODEL", config.model); }

absl::Status CheckEmbed(const EmbedConfig& config) {
  absl::Status status = RequireGiven("MODEL", config.model);
  return status.ok() ? RequireGiven("prompt", config.text) : status;
}

absl::Status CheckInspect(const InspectConfig& config) {
  return RequireGiven("MODEL", config.model);
}

absl::Status CheckBench(const BenchConfig& config) { return RequireGiven("MODEL", config.model); }

absl::Status CheckSimulate(const SimulateConfig& config) {
  return RequireGiven("TRACE", config.simulation.trace);
}

std::vector<CommandSyntax> AllSyntaxes() {
  return {
      {"serve", "MODEL [flags]", "answer over HTTP and gRPC", true},
      {"chat", "MODEL [flags]", "a conversation in the terminal, without a server"},
      {"generate", "MODEL -p TEXT [flags]", "one answer in the terminal, without a server"},
      {"embed", "MODEL -p TEXT [flags]", "the vector of a text"},
      {"bench", "MODEL [flags]", "how fast prefill and decode are"},
      {"inspect", "MODEL", "what is in a model file"},
      {"simulate", "TRACE|synthetic [flags]", "the scheduler in virtual time, all policies"},
      {"completion", "bash|zsh|fish", "a script with which a shell completes these words"},
  };
}

CommandSyntax SyntaxOf(absl::string_view name) {
  for (const CommandSyntax& syntax : AllSyntaxes()) {
    if (syntax.name == name) return syntax;
  }
  return {};
}

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
    return PrintAndExit{HelpText(syntax, flags, /*all=*/false)};
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(error.what());
  }
  if (reader.wants_all_help()) return PrintAndExit{HelpText(syntax, flags, /*all=*/true)};
  const absl::StatusOr<Values> values = reader.Read(flags);
  if (!values.ok()) return values.status();
  absl::Status status = ApplySources(*values, get_env, syntax.takes_file, flags);
  if (status.ok()) status = check(config);
  if (!status.ok()) return status;
  return Command(std::move(config));
}

// `pregate completion SHELL`.
absl::StatusOr<Command> ParseCompletion(const std::vector<std::string>& words) {
  const CommandSyntax syntax = SyntaxOf("completion");
  if (words.size() == 1 && (words[0] == "-h" || words[0] == "--help")) {
    return PrintAndExit{HelpText(syntax, {}, /*all=*/true)};
  }
  if (words.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("completion: must be one word, bash, zsh or fish; got ", words.size()));
  }
  ServeConfig serve;
  ChatConfig chat;
  GenerateConfig generate;
  EmbedConfig embed;
  BenchConfig bench;
  InspectConfig inspect;
  SimulateConfig simulate;
  const absl::StatusOr<std::string> script =
      CompletionScript(words[0], {{SyntaxOf("serve"), ServeFlags(&serve)},
                                  {SyntaxOf("chat"), ChatFlags(&chat)},
                                  {SyntaxOf("generate"), GenerateFlags(&generate)},
                                  {SyntaxOf("embed"), EmbedFlags(&embed)},
                                  {SyntaxOf("bench"), BenchFlags(&bench)},
                                  {SyntaxOf("inspect"), InspectFlags(&inspect)},
                                  {SyntaxOf("simulate"), SimulateFlags(&simulate)},
                                  {syntax, {}}});
  if (!script.ok()) return script.status();
  return PrintAndExit{*script};
}

}  // namespace

std::optional<std::string> ProcessEnv(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

absl::StatusOr<Command> ParseCommandLine(int argc, const char* const* argv, const GetEnv& get_env) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (words.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("command: must be given; got none\n\n", UsageText(AllSyntaxes())));
  }
  const std::string command = words.front();
  words.erase(words.begin());
  if (command == "-h" || command == "--help") return PrintAndExit{UsageText(AllSyntaxes())};
  if (command == "--version") return PrintAndExit{"pregate " PREGATE_VERSION "\n"};
  const auto parse = [&](auto* make_flags, auto* check) {
    return ParseCommand(SyntaxOf(command), make_flags, check, std::move(words), get_env);
  };
  if (command == "serve") return parse(ServeFlags, CheckServe);
  if (command == "chat") return parse(ChatFlags, CheckChat);
  if (command == "generate") return parse(GenerateFlags, CheckGenerate);
  if (command == "embed") return parse(EmbedFlags, CheckEmbed);
  if (command == "bench") return parse(BenchFlags, CheckBench);
  if (command == "inspect") return parse(InspectFlags, CheckInspect);
  if (command == "simulate") return parse(SimulateFlags, CheckSimulate);
  if (command == "completion") return ParseCompletion(words);
  std::string names;
  for (const CommandSyntax& syntax : AllSyntaxes()) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", syntax.name);
  }
  return absl::InvalidArgumentError(absl::StrCat("command: must be one of ", names, "; got ",
                                                 Shown(command), "\n\n", UsageText(AllSyntaxes())));
}

std::string FlagsMarkdown() {
  ServeConfig config;
  std::string table = "| flag | default | what it is |\n| --- | --- | --- |\n";
  for (const Flag& flag : ServeFlags(&config)) {
    if (flag.name == kModelFlag) continue;
    absl::StrAppend(&table, "| `", absl::StrReplaceAll(SpellingOf(flag), {{"|", "\\|"}}), "` | ",
                    flag.default_value, " | ", flag.help, " |\n");
  }
  absl::StrAppend(&table, "| `--", kConfigFlag, " FILE.yaml` |  | file with flags as keys |\n");
  return table;
}

}  // namespace pregate
