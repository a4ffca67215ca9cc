// Generation: one accepted request, between the engine's thread and whoever writes to the client.
#ifndef PREGATE_SERVER_GENERATION_GENERATION_H_
#define PREGATE_SERVER_GENERATION_GENERATION_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/generation/answer_text.h"
#include "server/generation/client_request.h"
#include "server/generation/served_model.h"
#include "server/metrics/metrics.h"
#include "server/tracing/request_record.h"

namespace pregate {

// The engine's thread only appends ids to a list; they become text on the thread that takes them.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Tells that there is something to take where there was nothing. Called on the engine's thread:
  // must not block and must not call back.
  using Wake = std::function<void()>;

  // Submits the request. `model` must outlive the result. Refusals are counted in the metrics:
  // those of ServedModel::Translate and of Engine::Submit.
  static absl::StatusOr<std::shared_ptr<Generation>> Start(const ServedModel* model,
                                                           ClientRequest request, Wake wake);

  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // What is new, one delta for each answer that has something; if the client does not stream, one
  // for each answer that has ended, with all of it. At most `outputs` of the engine's are taken;
  // what is left wakes nobody. For one thread at a time.
  std::vector<AnswerDelta> Take(size_t outputs = std::numeric_limits<size_t>::max());
  // For the same thread: some are left of those that it might have taken.
  bool has_more() const { return next_taken_ < taken_.size(); }

  // Ends what still runs; thread-safe, the first call counts. Answers that this ends have kError in
  // place of kCancelled when `why` is not CANCELLED.
  void Cancel(absl::Status why);

  // For the thread that takes: the last delta of every answer has been taken, and how that ended.
  // OK, or DEADLINE_EXCEEDED, INTERNAL, or what Cancel was called with.
  bool done() const { return ended_ == answers_.size(); }
  const absl::Status& status() const { return status_; }
  // Once done: tokens of all answers together, times of the first.
  const AnswerRecord& record() const { return record_; }
  int answers() const { return static_cast<int>(answers_.size()); }
  // Once done: adds its answers to those of the same request that ended before.
  void AddTo(RequestRecord* record) const;

  // What waits to be taken. Thread-safe.
  struct Backlog {
    int64_t tokens = 0;
    bool complete = false;  // the engine has ended every answer
  };
  Backlog backlog() const;

 private:
  using SteadyTime = std::chrono::steady_clock::time_point;
  struct Answer {
    AnswerText text;
    AnswerDelta delta = {};         // not handed out yet
    bool engine_cancelled = false;  // because a stop string ended it
    FinishReason finish = FinishReason::kNone;
  };

  Generation(const ServedModel* model, const ClientRequest& request, Wake wake);

  absl::Status Submit(GenerationRequest request);
  void Receive(GenerationOutput output);  // on the engine's thread
  void EndAnswer(AnswerDelta* delta);
  absl::Status StatusOf(const AnswerDelta& delta) const;

  const ServedModel* const model_;
  const Wake wake_;
  const bool stream_;
  const bool is_chat_;
  const SteadyTime arrived_ = std::chrono::steady_clock::now();
  SteadyTime submitted_;  // before the engine knows of it

  // The taking thread's own.
  std::vector<Answer> answers_;
  std::vector<GenerationOutput> taken_;
  size_t next_taken_ = 0;
  size_t ended_ = 0;
  absl::Status status_;
  AnswerRecord record_;

  mutable absl::Mutex mutex_;
  uint64_t request_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<GenerationOutput> outputs_ ABSL_GUARDED_BY(mutex_);
  std::vector<SteadyTime> last_token_ ABSL_GUARDED_BY(mutex_);  // [answers]
  Backlog backlog_ ABSL_GUARDED_BY(mutex_);
  size_t engine_ended_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status cancelled_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_GENERATION_H_
