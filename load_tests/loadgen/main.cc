// loadgen: open-loop load against a Pregate server, or another. `loadgen --help`.
#include <sched.h>
#include <sys/resource.h>

#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "load_tests/loadgen/client.h"
#include "load_tests/loadgen/frame_client.h"
#include "load_tests/loadgen/http_client.h"
#include "load_tests/loadgen/options.h"
#include "load_tests/loadgen/report.h"
#include "server/file_limit.h"

namespace pregate {
namespace {

constexpr int kFailed = 1, kBadUsage = 2, kGeneratorLate = 3;

int Fail(const absl::Status& status, int exit_status) {
  absl::FPrintF(stderr, "loadgen: %s\n", std::string(status.message()));
  return exit_status;
}

// A generator that shares its cores with the server must not wait for it. Where neither is allowed
// the report's lag says whether it mattered.
void GoFirst() {
  const sched_param lowest = {.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_RR, &lowest) != 0) setpriority(PRIO_PROCESS, 0, -10);
}

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

bool WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text << '\n';
  return static_cast<bool>(file.flush());
}

// What prompts are pieces of; nothing where they are random.
absl::StatusOr<std::vector<uint32_t>> TextOf(const Options& options) {
  if (options.text_path.empty()) return std::vector<uint32_t>();
  const absl::StatusOr<std::string> text = ReadFile(options.text_path);
  if (!text.ok()) return text.status();
  auto ids = TokenizeText(options.client.address, *text);
  if (ids.ok() && ids->empty()) return absl::InvalidArgumentError("--text: must not be empty");
  return ids;
}

int RunWith(const Options& options) {
  if (options.go_last) {
    setpriority(PRIO_PROCESS, 0, 19);
  } else {
    GoFirst();
  }
  const bool over_http = options.protocol != Protocol::kPregate;
  const std::string& address = options.client.address;
  const auto server = over_http ? AwaitHttpServer(options.protocol, address, options.wait_s)
                                : AwaitServer(address, options.wait_s);
  if (!server.ok()) return Fail(server.status(), kFailed);
  const auto load = MakeLoad(options, server->max_model_len);
  if (!load.ok()) return Fail(load.status(), kBadUsage);
  const auto text = TextOf(options);
  if (!text.ok()) return Fail(text.status(), kFailed);
  const Prompts prompts(
      {server->vocab_size, options.synthetic.seed, options.shared_prefix, *std::move(text)});
  const double cpu_before = CpuSeconds();
  const auto records =
      over_http ? RunHttpLoad(options.protocol, server->model, options.client, *load, prompts)
      : options.client.kernel_times ? RunFrameLoad(options.client, *load, prompts)
                                    : RunLoad(options.client, *load, prompts);
  if (!records.ok()) return Fail(records.status(), kFailed);

  Report report = MakeReport(*records, options.ttft_limit_ms / 1e3, options.itl_limit_ms / 1e3);
  report.generator_cpu_s = CpuSeconds() - cpu_before;
  if (load->concurrency > 0) {
    absl::PrintF("closed loop, %d clients: a note on peak throughput, not on latency\n",
                 load->concurrency);
  }
  std::fputs(ToTable(report).c_str(), stdout);
  if (!options.json_path.empty() &&
      !WriteFile(options.json_path, ToJson(report, *records, SettingsJson(options, *server)))) {
    return Fail(absl::UnavailableError(options.json_path + ": cannot be written"), kFailed);
  }
  if (!KeptUp(report)) {
    absl::FPrintF(stderr,
                  "loadgen: RUN INVALID: the generator sent late itself (p99 %.1f ms, at most %.0f "
                  "ms): give it a free core\n",
                  1e3 * report.lag.p99, 1e3 * kMaxLagP99S);
    return kGeneratorLate;
  }
  if (report.time_to_first_token.count == 0) {
    return Fail(absl::UnavailableError("no request ended well"), kFailed);
  }
  return 0;
}

int Main(int argc, char** argv) {
  RaiseFileLimit();
  const auto options = ParseOptions(argc, argv);
  if (!options.ok()) return Fail(options.status(), kBadUsage);
  return options->has_value() ? RunWith(**options) : 0;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) { return pregate::Main(argc, argv); }
