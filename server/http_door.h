// HttpDoor: everything that is served over HTTP, and the listener of the probes.
#ifndef PREGATE_SERVER_HTTP_DOOR_H_
#define PREGATE_SERVER_HTTP_DOOR_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/generation/served_model.h"
#include "server/http/http_server.h"
#include "server/log/request_log.h"

namespace pregate {

struct HttpDoorOptions {
  HttpServerOptions server;
  int health_port = -1;  // of a listener for probes alone; 0: any free one; below: none
  absl::Duration step_timeout = absl::Seconds(30);  // of a step, before the engine is called stuck
};

// /readyz says 200 from the start, 503 while the model is overloaded; /livez says 503 while the
// engine has something to run and no step ends: an orchestrator restarts a process that is stuck,
// never one that is busy. On the health port, of the same host, the two answer in plain text and
// whatever clients do to the other: whoever asks there needs no certificate, and finds room when
// all connections are taken.
class HttpDoor {
 public:
  // `model` and `log` must outlive the result. Errors are those of HttpServer::Start.
  static absl::StatusOr<std::unique_ptr<HttpDoor>> Start(const HttpDoorOptions& options,
                                                         const ServedModel* model, RequestLog* log);
  virtual ~HttpDoor() = default;

  // The ports in use. No health port: 0.
  virtual int port() const = 0;
  virtual int health_port() const = 0;
  // /readyz says 503 from now on, and an answer that begins ends its connection.
  virtual void StopServing() = 0;
  // Ends every answer: what was generated is written, then `why`.
  virtual void AbortStreams(const absl::Status& why) = 0;
  // Accepts nothing new, gives what runs `grace` to end, cuts the rest. Call before destruction.
  virtual void Shutdown(absl::Duration grace) = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_DOOR_H_
