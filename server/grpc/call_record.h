// What the log and the traces say of a call of gRPC.
#ifndef PREGATE_SERVER_GRPC_CALL_RECORD_H_
#define PREGATE_SERVER_GRPC_CALL_RECORD_H_

#include <grpcpp/server_context.h>

#include <string>

#include "absl/status/status.h"
#include "server/tracing/request_record.h"

namespace pregate {

// Without its answers. `method` is the method's own name, without its service.
RequestRecord RecordOf(const grpc::CallbackServerContext& context, std::string method,
                       std::string request_id, const absl::Status& status, const Arrival& arrival);

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_CALL_RECORD_H_
