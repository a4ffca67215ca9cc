// EncodingCall: one accepted call for vectors or scores, between the engine's thread and whoever
// answers the client.
#ifndef PREGATE_SERVER_EMBEDDING_ENCODING_CALL_H_
#define PREGATE_SERVER_EMBEDDING_ENCODING_CALL_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/embedding/encoding_job.h"
#include "server/generation/served_model.h"
#include "server/metrics/metrics.h"
#include "server/tracing/request_record.h"

namespace pregate {

// Its texts join the engine's queue a window at a time, so that a long list does not fill it. The
// first error ends all of them.
class EncodingCall : public std::enable_shared_from_this<EncodingCall> {
 public:
  static constexpr int32_t kWindow = 128;  // texts with the engine at once

  // Tells that Advance has something to do. Called on the engine's thread: must not block and must
  // not call back.
  using Wake = std::function<void()>;

  // Submits the first texts. `model` must outlive the result. Refusals are counted in the metrics:
  // those of planning, which `job` may be, and of Engine::Encode.
  static absl::StatusOr<std::shared_ptr<EncodingCall>> Start(const ServedModel* model,
                                                             absl::StatusOr<EncodingJob> job,
                                                             Wake wake);

  EncodingCall(const EncodingCall&) = delete;
  EncodingCall& operator=(const EncodingCall&) = delete;

  // Submits what the window has room for; true when the call has ended. Never on the engine's
  // thread, and for one thread at a time.
  bool Advance();

  // Ends what still runs; thread-safe, the first call counts.
  void Cancel(absl::Status why);

  // For the thread that advances, once the call has ended. The result, asked for once; or
  // DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED (others have filled the queue meanwhile),
  // UNAVAILABLE, or what Cancel was called with.
  absl::StatusOr<EncodingResult> TakeResult();
  const AnswerRecord& record() const { return record_; }
  void AddTo(RequestRecord* record) const;

 private:
  using SteadyTime = std::chrono::steady_clock::time_point;

  EncodingCall(const ServedModel* model, EncodingJob job, Wake wake);

  absl::Status SubmitNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SubmitWindow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Receive(size_t index, EncodingOutput output);  // on the engine's thread
  void Close() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasEnded() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return in_flight_ == 0 && (!status_.ok() || next_ == job_.requests.size());
  }

  const ServedModel* const model_;
  const Wake wake_;
  const SteadyTime arrived_ = std::chrono::steady_clock::now();

  absl::Mutex mutex_;
  EncodingJob job_;  // its requests are moved away one by one, its numbers stay
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;  // the first that is not submitted yet
  int32_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<uint64_t> ids_ ABSL_GUARDED_BY(mutex_);               // [requests] with the engine
  std::vector<std::vector<float>> values_ ABSL_GUARDED_BY(mutex_);  // [requests]
  absl::Status status_ ABSL_GUARDED_BY(mutex_);                     // what ended it early
  absl::Duration queue_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();  // of the first to run
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<void> open_ ABSL_GUARDED_BY(mutex_);  // until closed
  AnswerRecord record_;                                 // of the advancing thread, once closed
};

}  // namespace pregate

#endif  // PREGATE_SERVER_EMBEDDING_ENCODING_CALL_H_
