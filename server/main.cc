// The one binary: `pregate COMMAND ...`.
#include <cstdio>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/commands/bench.h"
#include "server/commands/chat.h"
#include "server/commands/embed.h"
#include "server/commands/generate.h"
#include "server/commands/inspect.h"
#include "server/commands/simulate.h"
#include "server/config/config.h"
#include "server/serve.h"

namespace pregate {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "pregate: %s\n", std::string(status.message()).c_str());
  return kBadUsageExitStatus;
}

int ExitStatus(const absl::Status& status) { return status.ok() ? 0 : Fail(status); }
int ExitStatus(const absl::StatusOr<int>& exit_status) {
  return exit_status.ok() ? *exit_status : Fail(exit_status.status());
}

int Run(const ServeConfig& config) { return Serve(config); }
int Run(const ChatConfig& config) { return ExitStatus(Chat(config)); }
int Run(const GenerateConfig& config) { return ExitStatus(Generate(config)); }
int Run(const EmbedConfig& config) { return ExitStatus(Embed(config)); }
int Run(const InspectConfig& config) { return ExitStatus(Inspect(config)); }
int Run(const BenchConfig& config) { return ExitStatus(Bench(config)); }
int Run(const SimulateConfig& config) { return ExitStatus(Simulate(config)); }
int Run(const PrintAndExit& output) {
  std::fputs(output.text.c_str(), stdout);
  return 0;
}

int Main(int argc, char** argv) {
  const absl::StatusOr<Command> command = ParseCommandLine(argc, argv, ProcessEnv);
  if (!command.ok()) return Fail(command.status());
  return std::visit([](const auto& config) { return Run(config); }, *command);
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  // Debian's library looks for cycles at every lock: a tenth of the time that a token takes here.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return pregate::Main(argc, argv);
}
