// GrpcServer: the listener for gRPC, with health, reflection and limits.
#ifndef PREGATE_SERVER_GRPC_GRPC_SERVER_H_
#define PREGATE_SERVER_GRPC_GRPC_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/generation/served_model.h"
#include "server/identity/authorizer.h"
#include "server/identity/tls_files.h"
#include "server/log/request_log.h"

namespace pregate {

struct GrpcServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: any free one
  bool reflection = true;
  // Both must outlive the server.
  const Authorizer* authorizer = nullptr;            // null: nobody needs a token
  const TlsFiles* tls = nullptr;                     // null: plain text
  absl::Duration stall_timeout = absl::Seconds(30);  // of a client that does not read
  absl::Duration step_timeout = absl::Seconds(30);   // of a step, before the engine is called stuck
  // Of a connection, before its client is told to make another, a tenth more or less; zero: none.
  absl::Duration max_connection_age;
  absl::Duration max_connection_age_grace;  // for what then runs on it to end; zero: all it needs
};

// gRPC's headers stay behind this one. Health says SERVING from the start, and NOT_SERVING while
// the engine has something to run and no step ends, or the model is overloaded.
class GrpcServer {
 public:
  // `model` and `log` must outlive the result. UNAVAILABLE when the address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcServerOptions& options,
                                                           const ServedModel* model,
                                                           RequestLog* log);
  virtual ~GrpcServer() = default;

  // The port in use.
  virtual int port() const = 0;
  // Health says NOT_SERVING from now on.
  virtual void StopServing() = 0;
  // Ends every stream: what was generated is written, then `why`.
  virtual void AbortStreams(const absl::Status& why) = 0;
  // Refuses new calls, gives those that run `grace` to end, cuts the rest. Call before destruction.
  virtual void Shutdown(absl::Duration grace) = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_GRPC_SERVER_H_
