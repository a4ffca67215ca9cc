// The routes that orchestrators ask.
#ifndef PREGATE_SERVER_HTTP_HEALTH_ROUTES_H_
#define PREGATE_SERVER_HTTP_HEALTH_ROUTES_H_

#include <atomic>
#include <vector>

#include "server/http/http_server.h"

namespace pregate {

struct HealthState {
  std::atomic<bool> serving = true;      // false: no more requests, please
  std::atomic<bool> stuck = false;       // a step does not end
  std::atomic<bool> overloaded = false;  // none for a while, please
};

// Why a server that is so takes no requests; null: it does.
const char* NotReady(const HealthState& state);

// /livez (200 unless stuck) and /readyz (200 unless NotReady), without a token. `state` must
// outlive the routes.
std::vector<HttpRoute> ProbeRoutes(const HealthState* state);

// These, /health (as /readyz) and /version.
std::vector<HttpRoute> HealthRoutes(const HealthState* state);

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_HEALTH_ROUTES_H_
