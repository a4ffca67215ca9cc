// What `pregate` was asked to do, read from its command line, the environment and a YAML file.
#ifndef PREGATE_SERVER_CONFIG_CONFIG_H_
#define PREGATE_SERVER_CONFIG_CONFIG_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/bench.h"
#include "engine/engine.h"
#include "engine/simulation.h"
#include "server/identity/tls_files.h"

namespace pregate {

enum class LogFormat : uint8_t { kText, kJson };
// Which names the metrics page carries besides `pregate_`.
enum class MetricsCompat : uint8_t { kNone, kVllm };
// kAuto: served when the host is a loopback address.
enum class Reflection : uint8_t { kAuto, kOn, kOff };

// `pregate serve MODEL`. Each field is the flag of the same name.
struct ServeConfig {
  std::string model;  // path of a GGUF file or of a Hugging Face folder
  EngineOptions engine;

  std::string served_model_name;  // empty: the name in the file
  std::string chat_template;      // path of a Jinja file; empty: the model's own
  std::string query_prefix;       // of texts that are embedded; empty: the model folder's
  std::string passage_prefix;
  std::string host = "127.0.0.1";
  int http_port = 8000;      // 0: any free port
  int grpc_port = 8001;      // 0: any free port
  int metrics_port = 8002;   // 0: any free port
  std::string metrics_host;  // of the metrics port; empty: `host`
  int health_port = -1;      // of the probes alone; 0: any free port; below: none
  std::string api_key_file;  // empty: nobody needs a token
  TlsPaths tls;              // --ssl-certfile, --ssl-keyfile, --ssl-ca-certs
  Reflection reflection = Reflection::kAuto;
  absl::Duration grpc_max_connection_age;            // zero: none
  absl::Duration grpc_max_connection_age_grace;      // zero: none
  absl::Duration overload_unready_after;             // zero: never
  absl::Duration drain_timeout = absl::Seconds(30);  // for what runs to end after SIGTERM
  absl::Duration shutdown_delay;                     // from "not serving" to the first refusal
  LogFormat log_format = LogFormat::kText;
  MetricsCompat metrics_compat = MetricsCompat::kNone;
  std::string otlp_traces_endpoint;  // URL of a collector; empty: nothing is traced
  double trace_sample_ratio = 1.0;   // of requests whose caller traces nothing
};

// `pregate generate MODEL -p PROMPT`.
struct GenerateConfig {
  std::string model;
  EngineOptions engine;

  std::string prompt;
  std::string system;         // the system message; empty: none
  std::string chat_template;  // path of a Jinja file; empty: the model's own
  bool raw = false;           // continue the prompt as plain text: no chat template
  int32_t max_tokens = 256;
  double temperature = 0.0;
  double top_p = 1.0;
  int32_t top_k = 0;  // 0: all
  uint64_t seed = 0;
  bool json = false;  // one JSON object at the end instead of text as it comes
};

// `pregate chat MODEL`.
struct ChatConfig {
  std::string model;
  EngineOptions engine;

  std::string system;         // the system message; empty: none
  std::string chat_template;  // path of a Jinja file; empty: the model's own
  int32_t max_tokens = 1024;  // of one answer
  double temperature = 0.7;
  double top_p = 0.95;
  int32_t top_k = 0;  // 0: all
  uint64_t seed = 0;
};

// `pregate embed MODEL -p TEXT`.
struct EmbedConfig {
  std::string model;
  EngineOptions engine;

  std::string text;
  std::string kind = "plain";     // plain, query, passage
  std::string pooling = "model";  // model, cls, mean, last
  bool normalize = true;
  int32_t dimensions = 0;  // 0: all
};

// `pregate inspect MODEL`.
struct InspectConfig {
  std::string model;
};

// `pregate bench MODEL`.
struct BenchConfig {
  std::string model;
  EngineOptions engine;
  BenchOptions bench;
  bool json = false;      // the report as JSON instead of a table
  bool by_turns = false;  // waits for a line before each repetition
};

// `pregate simulate TRACE`.
struct SimulateConfig {
  SimulationOptions simulation;
  bool json = false;  // the report as JSON instead of a table
};

// `--help` or `--version`: print this on standard output and exit with 0.
struct PrintAndExit {
  std::string text;
};

using Command = std::variant<ServeConfig, ChatConfig, GenerateConfig, EmbedConfig, InspectConfig,
                             BenchConfig, SimulateConfig, PrintAndExit>;

// Reads the environment: a variable's value, or nothing.
using GetEnv = std::function<std::optional<std::string>(const std::string& name)>;
std::optional<std::string> ProcessEnv(const std::string& name);

// Each flag's value is the one on the command line, else PREGATE_<NAME> from the environment, else
// (`serve`) the one in the file that --config names, else the default. INVALID_ARGUMENT, with a
// message for the user, is bad usage: exit with kBadUsageExitStatus.
absl::StatusOr<Command> ParseCommandLine(int argc, const char* const* argv, const GetEnv& get_env);
inline constexpr int kBadUsageExitStatus = 2;

// The README's table of `pregate serve`'s flags.
std::string FlagsMarkdown();

}  // namespace pregate

#endif  // PREGATE_SERVER_CONFIG_CONFIG_H_
