// Gate: who may make a call of gRPC.
#ifndef PREGATE_SERVER_GRPC_GATE_H_
#define PREGATE_SERVER_GRPC_GATE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "server/grpc/generate_call.h"
#include "server/identity/authorizer.h"

namespace pregate {

class Gate {
 public:
  // Both must outlive this. `authorizer` null: everybody may.
  Gate(const Authorizer* authorizer, const CallEnvironment* environment)
      : authorizer_(authorizer), environment_(environment) {}

  // OK, or UNAUTHENTICATED, which has been counted, and has got its line of the log.
  absl::Status Admit(const grpc::CallbackServerContext& context, const char* method) const;

 private:
  const Authorizer* const authorizer_;
  const CallEnvironment* const environment_;
};

// How a call that is not let in ends: at once.
template <typename Response>
class RefusedWrite : public grpc::ServerWriteReactor<Response> {
 public:
  explicit RefusedWrite(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};
template <typename Request, typename Response>
class RefusedBidi : public grpc::ServerBidiReactor<Request, Response> {
 public:
  explicit RefusedBidi(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_GATE_H_
