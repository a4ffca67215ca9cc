// The routes that orchestrators ask.
#ifndef PREGATE_SERVER_HTTP_HEALTH_ROUTES_H_
#define PREGATE_SERVER_HTTP_HEALTH_ROUTES_H_

#include <atomic>
#include <vector>

#include "server/http/http_server.h"

namespace pregate {

struct HealthState {
  std::atomic<bool> serving = true;  // false: no more requests, please
  std::atomic<bool> stuck = false;   // a step does not end
};

// /livez (200 unless stuck) and /readyz (200 while serving and not stuck), without a token. `state`
// must outlive the routes.
std::vector<HttpRoute> ProbeRoutes(const HealthState* state);

// These, /health (as /readyz) and /version.
std::vector<HttpRoute> HealthRoutes(const HealthState* state);

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_HEALTH_ROUTES_H_
