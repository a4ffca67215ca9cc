// The metrics page on the HTTP listener: there with TLS and tokens, where the server has them.
#ifndef PREGATE_SERVER_HTTP_METRICS_ROUTE_H_
#define PREGATE_SERVER_HTTP_METRICS_ROUTE_H_

#include "server/http/http_server.h"
#include "server/metrics/metrics.h"

namespace pregate {

// GET /metrics. `metrics` must outlive the route.
HttpRoute MetricsRoute(const Metrics* metrics);

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_METRICS_ROUTE_H_
