// When a call is to end, by what its client said.
#ifndef PREGATE_SERVER_GRPC_CALL_DEADLINE_H_
#define PREGATE_SERVER_GRPC_CALL_DEADLINE_H_

#include <grpcpp/server_context.h>

#include "absl/time/time.h"

namespace pregate {

// A little before the client's library gives up at the deadline by itself, so that what was done,
// and why it ended, arrive before that. Any value that a client can send is fine.
absl::Time DeadlineOf(const grpc::CallbackServerContext& context);

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_CALL_DEADLINE_H_
