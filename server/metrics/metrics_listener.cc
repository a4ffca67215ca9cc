#include "server/metrics/metrics_listener.h"

#include <prometheus/exposer.h>
#include <sys/resource.h>

#include <exception>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

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
  return {"listening_ports",    absl::StrCat(Ipv4Host(host), ":", port), "num_threads",       "1",
          "request_timeout_ms", absl::StrCat(kScraperTimeoutMs),         "enable_keep_alive", "no"};
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

MetricsListener::MetricsListener(std::unique_ptr<prometheus::Exposer> exposer)
    : exposer_(std::move(exposer)), port_(exposer_->GetListeningPorts().front()) {}

MetricsListener::~MetricsListener() = default;

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(
    const std::string& host, int port, std::weak_ptr<prometheus::Collectable> page) {
  std::unique_ptr<prometheus::Exposer> exposer = StartExposer(ExposerOptions(host, port));
  if (exposer == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "metrics-port: must be free, on an IPv4 address of this machine; got ", host, ":", port));
  }
  exposer->RegisterCollectable(page);
  return std::unique_ptr<MetricsListener>(new MetricsListener(std::move(exposer)));
}

}  // namespace pregate
