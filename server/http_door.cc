#include "server/http_door.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/generation/step_watch.h"
#include "server/http/answer_exchange.h"
#include "server/http/health_routes.h"
#include "server/http/http_record.h"
#include "server/http/metrics_route.h"
#include "server/open_inference/http_routes.h"
#include "server/openai/openai_error.h"
#include "server/openai/openai_routes.h"

namespace pregate {
namespace {

constexpr int kMaxProbes = 64;  // connections at once

class Door : public HttpDoor {
 public:
  Door(const HttpDoorOptions& options, const ServedModel* model, RequestLog* log)
      : environment_{model, &pump_, log},
        step_watch_(options.step_timeout),
        pump_([this] { WatchHealth(); }) {}

  absl::Status Listen(HttpServerOptions options) {
    options.error = OpenAiError;
    options.on_refused = [this](const HttpRequest& request, const absl::Status& status) {
      LogRefusal(request, status);
    };
    options.leaving = [this] { return !health_.serving; };
    options.on_failed_handshake = [this] {
      environment_.model->metrics().CountFailedHandshakes(Listener::kHttp, 1);
    };
    absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Start(options, Routes());
    if (!server.ok()) return server.status();
    server_ = *std::move(server);
    return absl::OkStatus();
  }

  // `host` is the other listener's.
  absl::Status ListenForProbes(const std::string& host, int port) {
    HttpServerOptions options;
    options.host = host;
    options.port = port;
    options.io_threads = 1;
    options.worker_threads = 1;  // idle: probes are answered at once
    options.max_connections = kMaxProbes;
    absl::StatusOr<std::unique_ptr<HttpServer>> server =
        HttpServer::Start(options, ProbeRoutes(&health_));
    if (!server.ok()) {
      return absl::UnavailableError(absl::StrCat("health-", server.status().message()));
    }
    probes_ = *std::move(server);
    return absl::OkStatus();
  }

  int port() const override { return server_->port(); }
  int health_port() const override { return probes_ == nullptr ? 0 : probes_->port(); }
  void StopServing() override { health_.serving = false; }
  void AbortStreams(const absl::Status& why) override { pump_.AbortAll(why); }
  void Shutdown(absl::Duration grace) override {
    server_->Shutdown(grace);
    if (probes_ != nullptr) probes_->Shutdown(absl::ZeroDuration());
  }

 private:
  // Everything that is served over HTTP.
  std::vector<HttpRoute> Routes() {
    std::vector<HttpRoute> routes = HealthRoutes(&health_);
    routes.push_back(MetricsRoute(&environment_.model->metrics()));
    Append(OpenAiRoutes(&environment_), &routes);
    Append(OpenInferenceRoutes(&environment_, &health_), &routes);
    return routes;
  }

  static void Append(std::vector<HttpRoute> more, std::vector<HttpRoute>* routes) {
    for (HttpRoute& route : more) routes->push_back(std::move(route));
  }

  // Of requests that no handler has seen.
  void LogRefusal(const HttpRequest& request, const absl::Status& status) {
    if (absl::IsUnauthenticated(status)) {
      environment_.model->metrics().CountRejection(Rejection::kUnauthenticated);
    }
    environment_.log->WriteUntraced(RecordOf(request, status));
  }

  // On the pump's thread, every second.
  void WatchHealth() {
    health_.stuck = step_watch_.Stuck(environment_.model->engine().stats(), absl::Now());
    health_.overloaded = environment_.model->IsOverloaded();
  }

  HttpEnvironment environment_;
  HealthState health_;
  StepWatch step_watch_;
  StreamPump pump_;  // its thread calls WatchHealth
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<HttpServer> probes_;  // null: none
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpDoor>> HttpDoor::Start(const HttpDoorOptions& options,
                                                          const ServedModel* model,
                                                          RequestLog* log) {
  auto door = std::make_unique<Door>(options, model, log);
  // First: where it fails, no request may have reached the engine.
  if (options.health_port >= 0) {
    absl::Status status = door->ListenForProbes(options.server.host, options.health_port);
    if (!status.ok()) return status;
  }
  if (absl::Status status = door->Listen(options.server); !status.ok()) return status;
  return door;
}

}  // namespace pregate
