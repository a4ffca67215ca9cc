// EncodingReactor: one call of Inference.Embed or Inference.Score.
#ifndef PREGATE_SERVER_GRPC_ENCODING_REACTOR_H_
#define PREGATE_SERVER_GRPC_ENCODING_REACTOR_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/synchronization/mutex.h"
#include "server/embedding/encoding_call.h"
#include "server/generation/stream_pump.h"
#include "server/grpc/answer_stall.h"
#include "server/grpc/generate_call.h"

namespace pregate {

// Owns itself from Begin to OnDone.
class EncodingReactor : public grpc::ServerUnaryReactor,
                        public PumpedStream,
                        public std::enable_shared_from_this<EncodingReactor> {
 public:
  // Writes the result, and where the time went, into the call's response; says how large it is.
  using Fill = std::function<size_t(const EncodingResult&, const RequestTiming&)>;

  static EncodingReactor* Begin(const CallEnvironment* environment,
                                grpc::CallbackServerContext* context, std::string method,
                                std::string request_id, absl::StatusOr<EncodingJob> job, Fill fill);

  void Advance() override;
  // Gives up a client that does not take its answer.
  void CheckStall(std::chrono::steady_clock::time_point now) override;
  void Abort(const absl::Status& why) override;

 private:
  EncodingReactor(const CallEnvironment* environment, grpc::CallbackServerContext* context,
                  std::string method, std::string request_id, Fill fill)
      : environment_(environment),
        context_(context),
        method_(std::move(method)),
        request_id_(std::move(request_id)),
        fill_(std::move(fill)) {}

  void OnCancel() override;
  void OnDone() override;

  void Start(absl::StatusOr<EncodingJob> job);
  void FinishWith(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CallEnvironment* const environment_;
  grpc::CallbackServerContext* const context_;
  const Arrival arrival_ = {};
  const std::string method_;
  const std::string request_id_;
  const Fill fill_;

  absl::Mutex mutex_;
  std::shared_ptr<EncodingCall> call_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<EncodingReactor> self_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of the answer
  AnswerStall stall_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_ENCODING_REACTOR_H_
