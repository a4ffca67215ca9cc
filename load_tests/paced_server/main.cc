// paced_server BEAT_MS: the front doors around an engine that gives every answer a token at each
// beat. Prints the ports when they answer, and serves until SIGTERM or SIGINT.
#include <csignal>
#include <cstdio>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "load_tests/paced_server/paced_engine.h"
#include "server/file_limit.h"
#include "server/generation/served_model.h"
#include "server/grpc/grpc_server.h"
#include "server/http_door.h"
#include "server/log/request_log.h"
#include "server/metrics/metrics.h"
#include "tests/server/byte_tokenizer.h"

namespace pregate {
namespace {

constexpr absl::Duration kGrace = absl::Seconds(5);

int Fail(const absl::Status& status) {
  absl::FPrintF(stderr, "paced_server: %s\n", std::string(status.message()));
  return 1;
}

int Serve(double beat_ms) {
  RaiseFileLimit();
  // Threads take over what is blocked here: only sigwait sees the signals.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  PacedEngine engine(MakeByteTokenizer(),
                     std::chrono::microseconds(static_cast<int64_t>(1e3 * beat_ms)));
  Metrics metrics(&engine, "paced", MetricsCompat::kNone);
  RequestLog log(LogFormat::kJson);
  const ServedModel model(&engine, &metrics, {.name = "paced"});
  const auto grpc = GrpcServer::Start({}, &model, &log);
  if (!grpc.ok()) return Fail(grpc.status());
  const auto http = HttpDoor::Start({}, &model, &log);
  if (!http.ok()) return Fail(http.status());
  absl::PrintF("grpc %d\nhttp %d\n", (*grpc)->port(), (*http)->port());
  std::fflush(stdout);
  int signal;
  sigwait(&signals, &signal);
  engine.StartDrain();
  (*grpc)->Shutdown(kGrace);
  (*http)->Shutdown(kGrace);
  return 0;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as in server/main.cc
  double beat_ms = 0;
  if (argc != 2 || !absl::SimpleAtod(argv[1], &beat_ms) || !(beat_ms >= 1 && beat_ms <= 1e4)) {
    absl::FPrintF(stderr, "usage: paced_server BEAT_MS (1 to 10000)\n");
    return 2;
  }
  return pregate::Serve(beat_ms);
}
