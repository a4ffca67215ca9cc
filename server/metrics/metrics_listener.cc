#include "server/metrics/metrics_listener.h"

#include <netdb.h>
#include <prometheus/exposer.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate {
namespace {

// A scraper that neither asks nor reads holds the only thread no longer than this, which is well
// below the usual timeout of the others.
constexpr int kScraperTimeoutMs = 2000;

// The lowest priority: when the processors are busy, the model goes first.
constexpr int kNiceness = 19;

// The library as distributed knows no IPv6: the addresses that mean "this machine" and "all" are
// taken in their older form, others fail to be listened on.
std::string Ipv4Host(const std::string& host) {
  if (host == "::1") return "127.0.0.1";
  if (host == "::") return "0.0.0.0";
  return host;
}

std::vector<std::string> ExposerOptions(const std::string& host, int port) {
  return {"listening_ports",    absl::StrCat(host, ":", port),   "num_threads",       "1",
          "request_timeout_ms", absl::StrCat(kScraperTimeoutMs), "enable_keep_alive", "no"};
}

// Connects and hangs up again.
void Knock(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* address = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &address) != 0) return;
  const int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK, 0);
  if (fd >= 0) {
    static_cast<void>(connect(fd, address->ai_addr, address->ai_addrlen));
    close(fd);
  }
  freeaddrinfo(address);
}

// Starts the library's threads from one whose priority they inherit. Null when it cannot listen.
std::unique_ptr<prometheus::Exposer> StartExposer(const std::vector<std::string>& options) {
  std::unique_ptr<prometheus::Exposer> exposer;
  std::thread starter([&] {
    setpriority(PRIO_PROCESS, 0, kNiceness);  // of this thread
    try {
      exposer = std::make_unique<prometheus::Exposer>(options);
    } catch (const std::exception&) {  // says only "null context when constructing CivetServer"
    }
  });
  starter.join();
  return exposer;
}

}  // namespace

MetricsListener::MetricsListener(std::string host, std::unique_ptr<prometheus::Exposer> exposer)
    : host_(std::move(host)),
      port_(exposer->GetListeningPorts().front()),
      exposer_(std::move(exposer)) {}

MetricsListener::~MetricsListener() {
  // The library asks itself whether to stop when somebody connects, else every two seconds.
  std::atomic<bool> stopped = false;
  std::thread knocker([&] {
    for (; !stopped; absl::SleepFor(absl::Milliseconds(5))) Knock(host_, port_);
  });
  exposer_.reset();
  stopped = true;
  knocker.join();
}

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(
    const std::string& host, int port, std::weak_ptr<prometheus::Collectable> page) {
  const std::string ipv4_host = Ipv4Host(host);
  std::unique_ptr<prometheus::Exposer> exposer = StartExposer(ExposerOptions(ipv4_host, port));
  if (exposer == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "metrics-port: must be free, on an IPv4 address of this machine; got ", host, ":", port));
  }
  exposer->RegisterCollectable(page);
  return std::unique_ptr<MetricsListener>(new MetricsListener(ipv4_host, std::move(exposer)));
}

}  // namespace pregate
