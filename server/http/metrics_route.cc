#include "server/http/metrics_route.h"

#include <memory>
#include <utility>

namespace pregate {

HttpRoute MetricsRoute(const Metrics* metrics) {
  HttpRoute route;
  route.method = "GET";
  route.path = "/metrics";
  route.handler = [metrics](const std::shared_ptr<HttpExchange>& exchange) {
    HttpResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = metrics->Text();
    exchange->Respond(std::move(response));
  };
  return route;
}

}  // namespace pregate
