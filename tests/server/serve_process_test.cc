// `pregate serve` as a process: its page, its log and its end, seen from outside.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/model/gguf_writer.h"
#include "tests/server/scrape.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string TinyModel() {
  static const std::string path = ::testing::TempDir() + "serve_process.gguf";
  std::ofstream(path, std::ios::binary) << MakeTinyGguf({}).Build();
  return path;
}

// A server on free ports of loopback, killed at the end if it has not ended by itself.
class ServeProcess {
 public:
  explicit ServeProcess(std::vector<std::string> flags) {
    std::vector<std::string> words = {PREGATE_BINARY, "serve", TinyModel(), "--port", "0",
                                      "--grpc-port",  "0"};
    words.insert(words.end(), flags.begin(), flags.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    unlink(log_.c_str());
    pid_ = fork();
    if (pid_ != 0) return;
    dup2(open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  ~ServeProcess() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  std::vector<std::string> Log() const {
    std::ifstream file(log_);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return absl::StrSplit(text, '\n', absl::SkipEmpty());
  }

  // Waits for a line of the log that begins so and returns it; "" after ten seconds without.
  std::string AwaitLine(const std::string& begin) const {
    for (int i = 0; i < 1000; ++i, absl::SleepFor(absl::Milliseconds(10))) {
      for (const std::string& line : Log()) {
        if (absl::StartsWith(line, begin)) return line;
      }
    }
    return "";
  }

  // The port in the line that begins so.
  int AwaitPort(const std::string& begin) const {
    std::string line = AwaitLine(begin);
    line = line.substr(line.find("127.0.0.1:") + 10);
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(line.substr(0, line.find_first_not_of("0123456789")), &port));
    return port;
  }

  // The exit status, after `signal` if that is not 0.
  int End(int signal) {
    if (signal != 0) kill(pid_, signal);
    int status = 0;
    waitpid(std::exchange(pid_, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  static inline int started_ = 0;
  const std::string log_ = absl::StrCat(::testing::TempDir(), "serve_process", started_++, ".log");
  pid_t pid_ = 0;
};

int Ask(int grpc_port, const std::string& flags) {
  return std::system(absl::StrCat(PREGATE_CLIENT, " --target 127.0.0.1:", grpc_port, " --wait 10 ",
                                  flags, " >/dev/null 2>&1")
                         .c_str());
}

TEST(ServeProcess, TheLogSaysOnceWhyTheCpuWasTaken) {
  setenv("PREGATE_CUDA_MODULE", "/nonexistent", 1);
  const auto count = [](std::vector<std::string> flags) {
    flags.insert(flags.end(), {"--metrics-port", "0"});
    ServeProcess server(std::move(flags));
    EXPECT_NE(server.AwaitLine("ask "), "");
    int lines = 0;
    for (const std::string& line : server.Log()) {
      lines +=
          absl::StartsWith(line, "device   CPU: the CUDA module cannot be loaded: /nonexistent: ");
    }
    EXPECT_EQ(server.End(SIGTERM), 0);
    return lines;
  };
  EXPECT_EQ(count({}), 1);
  EXPECT_EQ(count({"--device", "cpu"}), 0);
  ServeProcess refused({"--metrics-port", "0", "--device", "cuda"});
  EXPECT_EQ(refused.End(0), 2);
  EXPECT_THAT(refused.Log(),
              ElementsAre(StartsWith("pregate: device: the CUDA module cannot be loaded: ")));
  unsetenv("PREGATE_CUDA_MODULE");
}

TEST(ServeProcess, ARequestIsCountedAndLogged) {
  ServeProcess server({"--metrics-port", "0", "--metrics-compat", "vllm", "--log-format", "json",
                       "--served-model-name", "tiny"});
  const int grpc_port = server.AwaitPort("gRPC");
  const int metrics_port = server.AwaitPort("metrics");
  ASSERT_EQ(Ask(grpc_port, "--text abcdefgh --max-tokens 1"), 0);
  ASSERT_NE(Ask(grpc_port, "--text abcdefgh --temperature 9"), 0);

  const nlohmann::json answered =
      nlohmann::json::parse(server.AwaitLine("{"), nullptr, /*allow_exceptions=*/false);
  EXPECT_EQ(answered["method"], "Generate");
  EXPECT_EQ(answered["status"], "OK");
  EXPECT_EQ(answered["answers"], 1);
  EXPECT_EQ(answered["completion_tokens"], 1);
  EXPECT_THAT(answered["peer"].get<std::string>(), HasSubstr("127.0.0.1"));

  std::map<std::string, double> page = Values(Body(Get(metrics_port)));
  EXPECT_EQ(page["pregate_generation_tokens_total"], 1);
  EXPECT_EQ(page["pregate_prompt_tokens_total"], answered["prompt_tokens"].get<double>());
  EXPECT_EQ(page["vllm:generation_tokens_total{model_name=\"tiny\",engine=\"0\"}"], 1);
  EXPECT_EQ(page["pregate_e2e_request_latency_seconds_count"], 1);
  EXPECT_EQ(page["pregate_requests_rejected_total{reason=\"invalid\"}"], 1);

  EXPECT_EQ(server.End(SIGTERM), 0);
  int json_lines = 0;  // the refusal too, written before the end
  for (const std::string& line : server.Log()) json_lines += nlohmann::json::accept(line);
  EXPECT_EQ(json_lines, 2);
}

TEST(ServeProcess, AnInterruptEndsItSoon) {
  ServeProcess server({"--metrics-port", "0"});
  server.AwaitPort("metrics");
  const absl::Time start = absl::Now();
  EXPECT_EQ(server.End(SIGINT), 0);
  EXPECT_LT(absl::Now() - start, absl::Seconds(2));
}

TEST(ServeProcess, AMetricsPortInUseIsOneLine) {
  ServeProcess first({"--metrics-port", "0"});
  const int port = first.AwaitPort("metrics");
  ServeProcess second({"--metrics-port", absl::StrCat(port)});
  EXPECT_EQ(second.End(0), 1);
  std::vector<std::string> complaints;
  for (const std::string& line : second.Log()) {
    if (absl::StartsWith(line, "pregate: ")) complaints.push_back(line);
  }
  EXPECT_THAT(complaints, ElementsAre(::testing::AllOf(StartsWith("pregate: metrics-port: "),
                                                       EndsWith(absl::StrCat(":", port)))));
}

}  // namespace
}  // namespace pregate
