// InferCall: one call of GRPCInferenceService.ModelInfer.
#ifndef PREGATE_SERVER_GRPC_INFER_CALL_H_
#define PREGATE_SERVER_GRPC_INFER_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>

#include "absl/synchronization/mutex.h"
#include "server/generation/generation.h"
#include "server/generation/stream_pump.h"
#include "server/grpc/answer_stall.h"
#include "server/grpc/generate_call.h"
#include "server/grpc/open_inference_messages.h"

namespace pregate {

// A request of ModelInferRequest's form as the core takes it, or why not, which has been counted.
absl::StatusOr<ClientRequest> ReadInferRequest(const CallEnvironment& environment,
                                               const inference::ModelInferRequest& message,
                                               InferMethod method);

// Owns itself from Begin to OnDone.
class InferCall : public grpc::ServerUnaryReactor,
                  public PumpedStream,
                  public std::enable_shared_from_this<InferCall> {
 public:
  static InferCall* Begin(const CallEnvironment* environment, grpc::CallbackServerContext* context,
                          const inference::ModelInferRequest& request,
                          inference::ModelInferResponse* response);

  void Advance() override;
  // Gives up a client that does not take its answer.
  void CheckStall(std::chrono::steady_clock::time_point now) override;
  void Abort(const absl::Status& why) override;

 private:
  InferCall(const CallEnvironment* environment, grpc::CallbackServerContext* context,
            const inference::ModelInferRequest& request, inference::ModelInferResponse* response)
      : environment_(environment), context_(context), echo_(EchoOf(request)), response_(response) {}

  void OnCancel() override;
  void OnDone() override;

  void Start(const inference::ModelInferRequest& request);
  void FinishWith(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CallEnvironment* const environment_;
  grpc::CallbackServerContext* const context_;
  const Arrival arrival_ = {};
  const InferEcho echo_;
  inference::ModelInferResponse* const response_;

  absl::Mutex mutex_;
  std::shared_ptr<InferCall> self_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Generation> generation_ ABSL_GUARDED_BY(mutex_);  // null: refused
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  AnswerStall stall_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // how the call finished
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_INFER_CALL_H_
