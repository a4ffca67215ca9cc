// absl::Status as gRPC carries it, with the details that clients read.
#ifndef PREGATE_SERVER_GRPC_STATUS_H_
#define PREGATE_SERVER_GRPC_STATUS_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace pregate {

// Trailer in which gRPC clients look for how many milliseconds they must wait.
inline constexpr char kRetryPushbackTrailer[] = "grpc-retry-pushback-ms";

// INVALID_ARGUMENT gets a google.rpc.BadRequest that names the field (what the message begins
// with), RESOURCE_EXHAUSTED a google.rpc.RetryInfo with `retry_delay`.
grpc::Status ToGrpcStatus(const absl::Status& status, absl::Duration retry_delay);

// The same, as the last of a call: with the next retry delay, which the trailer above says too.
grpc::Status LastStatus(const absl::Status& status, grpc::CallbackServerContext* context);

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_STATUS_H_
