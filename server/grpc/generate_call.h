// GenerateCall: one call of Inference.Generate.
#ifndef PREGATE_SERVER_GRPC_GENERATE_CALL_H_
#define PREGATE_SERVER_GRPC_GENERATE_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <deque>
#include <memory>
#include <string>

#include "absl/synchronization/mutex.h"
#include "pregate/v1/inference.pb.h"
#include "server/generation/generation.h"
#include "server/grpc/stream_pumps.h"
#include "server/log/request_log.h"

namespace pregate {

// What every call needs. All outlive the calls.
struct CallEnvironment {
  const ServedModel* model = nullptr;
  StreamPumps* pumps = nullptr;
  RequestLog* log = nullptr;
  // A client that lets this pass without reading, while more than the backlog waits for it (or all
  // that will ever come), is given up.
  absl::Duration stall_timeout = absl::Seconds(30);
  int64_t stall_backlog_tokens = 256;
};

// Writes one message at a time; what the engine generates meanwhile becomes the next message. Owns
// itself from Begin to OnDone.
class GenerateCall : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                     public PumpedStream,
                     public std::enable_shared_from_this<GenerateCall> {
 public:
  static GenerateCall* Begin(const CallEnvironment* environment,
                             grpc::CallbackServerContext* context,
                             const v1::GenerateRequest& request);

  void Advance() override;
  void CheckStall(std::chrono::steady_clock::time_point now) override;
  void Abort(const absl::Status& why) override;

 private:
  GenerateCall(const CallEnvironment* environment, grpc::CallbackServerContext* context)
      : environment_(environment), context_(context) {}

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void Start(const v1::GenerateRequest& request);
  // The client is gone, or given up.
  void Leave(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishWith(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CallEnvironment* const environment_;
  grpc::CallbackServerContext* const context_;
  const Arrival arrival_ = {};
  std::string request_id_;

  absl::Mutex mutex_;
  std::shared_ptr<GenerateCall> self_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Generation> generation_ ABSL_GUARDED_BY(mutex_);  // null: refused
  std::deque<AnswerDelta> ready_ ABSL_GUARDED_BY(mutex_);
  v1::GenerateResponse response_ ABSL_GUARDED_BY(mutex_);  // being written
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::chrono::steady_clock::time_point write_started_ ABSL_GUARDED_BY(mutex_);
  absl::Status left_ ABSL_GUARDED_BY(mutex_);  // not OK: nothing can be written any more
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // how the call finished
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_GENERATE_CALL_H_
