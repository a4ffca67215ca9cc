#include "server/http/health_routes.h"

#include <string>
#include <utility>

namespace pregate {
namespace {

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

std::vector<HttpRoute> HealthRoutes(const HealthState* state) {
  auto live = [state]() -> const char* { return state->stuck ? "a step does not end" : nullptr; };
  auto ready = [state, live]() -> const char* { return state->serving ? live() : "draining"; };
  std::vector<HttpRoute> routes = {ProbeRoute("/livez", live), ProbeRoute("/readyz", ready),
                                   ProbeRoute("/health", ready)};
  routes[0].needs_token = false;
  routes[1].needs_token = false;

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
