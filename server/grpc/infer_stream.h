// InferStream: one call of GRPCInferenceService.ModelStreamInfer, with many requests.
#ifndef PREGATE_SERVER_GRPC_INFER_STREAM_H_
#define PREGATE_SERVER_GRPC_INFER_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <deque>
#include <list>
#include <memory>

#include "absl/synchronization/mutex.h"
#include "server/generation/generation.h"
#include "server/generation/stream_pump.h"
#include "server/grpc/generate_call.h"
#include "server/grpc/open_inference_messages.h"

namespace pregate {

// Reads one request after another and writes one response at a time, of those requests that have
// something, in turn. Nothing is read while kMaxRequests are being answered, or while responses
// wait for a client that does not read. Owns itself from Begin to OnDone.
class InferStream : public grpc::ServerBidiReactor<inference::ModelInferRequest,
                                                   inference::ModelStreamInferResponse>,
                    public PumpedStream,
                    public std::enable_shared_from_this<InferStream> {
 public:
  static constexpr size_t kMaxRequests = 256;

  static InferStream* Begin(const CallEnvironment* environment,
                            grpc::CallbackServerContext* context);

  void Advance() override;
  void CheckStall(std::chrono::steady_clock::time_point now) override;
  // Ends the requests that run with `why`, each in the stream, then the stream.
  void Abort(const absl::Status& why) override;

 private:
  // A request that is being answered.
  struct Item {
    Arrival arrival;
    InferEcho echo;
    bool empty_final = false;  // one more response, without outputs
    std::shared_ptr<Generation> generation;
  };

  InferStream(const CallEnvironment* environment, grpc::CallbackServerContext* context)
      : environment_(environment), context_(context) {}

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  absl::StatusOr<Item> Submit();
  void Accept(absl::StatusOr<Item> item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AdvanceLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadMore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Collect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Queue(const Item& item, const AnswerDelta& delta) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void QueueEnd(const Item& item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void QueueError(const InferEcho& echo, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The client is gone, or given up.
  void Leave(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CallEnvironment* const environment_;
  grpc::CallbackServerContext* const context_;

  // While `reading_`, the reader's own.
  inference::ModelInferRequest request_;
  Arrival request_arrival_;

  absl::Mutex mutex_;
  std::shared_ptr<InferStream> self_ ABSL_GUARDED_BY(mutex_);
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool submitting_ ABSL_GUARDED_BY(mutex_) = false;   // what was read last
  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;  // nothing more will be read
  std::list<Item> items_ ABSL_GUARDED_BY(mutex_);
  std::deque<inference::ModelStreamInferResponse> ready_ ABSL_GUARDED_BY(mutex_);
  // Of `ready_`, the front is being written.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::chrono::steady_clock::time_point write_started_ ABSL_GUARDED_BY(mutex_);
  absl::Status left_ ABSL_GUARDED_BY(mutex_);     // not OK: nothing can be written any more
  absl::Status aborted_ ABSL_GUARDED_BY(mutex_);  // not OK: how the stream is to end
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_INFER_STREAM_H_
