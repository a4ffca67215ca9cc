// MetricsListener: HTTP for the metrics page.
#ifndef PREGATE_SERVER_METRICS_METRICS_LISTENER_H_
#define PREGATE_SERVER_METRICS_METRICS_LISTENER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace prometheus {
class Collectable;
class Exposer;
}  // namespace prometheus

namespace pregate {

class MetricsListener {
 public:
  // Serves `page` under /metrics until destroyed, over IPv4 (of IPv6 hosts only ::1 and :: are
  // taken, as 127.0.0.1 and 0.0.0.0). Port 0 takes any free one. UNAVAILABLE when the address
  // cannot be listened on.
  static absl::StatusOr<std::unique_ptr<MetricsListener>> Start(
      const std::string& host, int port, std::weak_ptr<prometheus::Collectable> page);
  ~MetricsListener();

  int port() const { return port_; }

 private:
  MetricsListener(std::string host, std::unique_ptr<prometheus::Exposer> exposer);

  const std::string host_;  // as listened on
  const int port_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_METRICS_METRICS_LISTENER_H_
