#include "server/http/health_routes.h"

#include <string>
#include <utility>

namespace pregate {
namespace {

// Why not; null when it is.
const char* NotLive(const HealthState& state) {
  return state.stuck ? "a step does not end" : nullptr;
}

HttpRoute ProbeRoute(const char* path, std::function<const char*()> wrong) {
  HttpRoute route;
  route.method = "GET";
  route.path = path;
  route.at_once = true;  // however much the workers have to do
  route.handler = [wrong = std::move(wrong)](const std::shared_ptr<HttpExchange>& exchange) {
    const char* reason = wrong();
    HttpResponse response;
    response.status = reason == nullptr ? 200 : 503;
    response.content_type = "text/plain; charset=utf-8";
    response.body = std::string(reason == nullptr ? "ok" : reason) + "\n";
    exchange->Respond(std::move(response));
  };
  return route;
}

}  // namespace

const char* NotReady(const HealthState& state) {
  if (!state.serving) return "draining";
  if (const char* reason = NotLive(state); reason != nullptr) return reason;
  return state.overloaded ? "overloaded" : nullptr;
}

std::vector<HttpRoute> ProbeRoutes(const HealthState* state) {
  std::vector<HttpRoute> routes = {ProbeRoute("/livez", [state] { return NotLive(*state); }),
                                   ProbeRoute("/readyz", [state] { return NotReady(*state); })};
  for (HttpRoute& route : routes) route.needs_token = false;
  return routes;
}

std::vector<HttpRoute> HealthRoutes(const HealthState* state) {
  std::vector<HttpRoute> routes = ProbeRoutes(state);
  routes.push_back(ProbeRoute("/health", [state] { return NotReady(*state); }));
  HttpRoute version;
  version.method = "GET";
  version.path = "/version";
  version.handler = [](const std::shared_ptr<HttpExchange>& exchange) {
    HttpResponse response;
    response.body = "{\"version\":\"" PREGATE_VERSION "\"}";
    exchange->Respond(std::move(response));
  };
  routes.push_back(std::move(version));
  return routes;
}

}  // namespace pregate
