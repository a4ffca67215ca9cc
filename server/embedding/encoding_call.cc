#include "server/embedding/encoding_call.h"

#include <algorithm>
#include <utility>

#include "server/generation/answer_text.h"
#include "server/generation/rejection.h"

namespace pregate {
namespace {

FinishReason FinishOf(const absl::Status& status) {
  if (status.ok()) return FinishReason::kStop;
  if (absl::IsCancelled(status)) return FinishReason::kCancelled;
  return absl::IsDeadlineExceeded(status) ? FinishReason::kDeadline : FinishReason::kError;
}

}  // namespace

absl::StatusOr<std::shared_ptr<EncodingCall>> EncodingCall::Start(const ServedModel* model,
                                                                  absl::StatusOr<EncodingJob> job,
                                                                  Wake wake) {
  absl::Status status = job.status();
  if (status.ok()) {
    std::shared_ptr<EncodingCall> call(new EncodingCall(model, *std::move(job), std::move(wake)));
    absl::MutexLock lock(&call->mutex_);
    call->open_ = model->BeginCall();
    status = call->SubmitNext();
    if (status.ok()) {
      call->SubmitWindow();
      return call;
    }
  }
  model->metrics().CountRejection(RejectionOf(status));
  return status;
}

EncodingCall::EncodingCall(const ServedModel* model, EncodingJob job, Wake wake)
    : model_(model), wake_(std::move(wake)), job_(std::move(job)) {
  ids_.resize(job_.requests.size());
  values_.resize(job_.requests.size());
}

// Under the lock until the id is known: the output may come before Encode returns. The engine takes
// no lock of its own around its callbacks.
absl::Status EncodingCall::SubmitNext() {
  const size_t index = next_;
  job_.requests[index].continues = index > 0;
  // A refused request is lost; whoever is refused has no use for it.
  const absl::StatusOr<uint64_t> id = model_->engine().Encode(
      job_.requests[index], [self = shared_from_this(), index](EncodingOutput output) {
        self->Receive(index, std::move(output));
      });
  if (!id.ok()) return id.status();
  job_.requests[index] = {};
  ids_[index] = *id;
  ++next_;
  ++in_flight_;
  return absl::OkStatus();
}

void EncodingCall::SubmitWindow() {
  while (status_.ok() && next_ < job_.requests.size() && in_flight_ < kWindow) {
    absl::Status status = SubmitNext();
    if (status.ok()) continue;
    // A full queue has room again when one of ours has ended.
    if (absl::IsResourceExhausted(status) && in_flight_ > 0) return;
    Fail(std::move(status));
  }
}

bool EncodingCall::Advance() {
  absl::MutexLock lock(&mutex_);
  SubmitWindow();
  if (!HasEnded()) return false;
  if (!closed_) Close();
  return true;
}

void EncodingCall::Fail(absl::Status why) {
  if (!status_.ok()) return;
  status_ = std::move(why);
  for (const uint64_t id : ids_) {
    if (id != 0) model_->engine().Cancel(id);
  }
}

void EncodingCall::Receive(size_t index, EncodingOutput output) {
  {
    absl::MutexLock lock(&mutex_);
    --in_flight_;
    ids_[index] = 0;
    queue_ = std::min(queue_, output.queue);
    if (output.status.ok()) {
      values_[index] = std::move(output.values);
    } else {
      Fail(absl::IsCancelled(output.status) ? absl::CancelledError("server: stopping")
                                            : std::move(output.status));
    }
    // Each half of a window is one wake.
    const bool wants_more =
        status_.ok() && next_ < job_.requests.size() && in_flight_ <= kWindow / 2;
    if (!HasEnded() && !wants_more) return;
  }
  wake_();
}

void EncodingCall::Cancel(absl::Status why) {
  absl::MutexLock lock(&mutex_);
  if (!HasEnded()) Fail(std::move(why));
}

void EncodingCall::Close() {
  closed_ = true;
  open_.reset();
  record_.finish = FinishOf(status_);
  record_.drained = absl::IsUnavailable(status_);
  record_.prompt_tokens = static_cast<int32_t>(job_.tokens);
  record_.end_to_end = absl::FromChrono(std::chrono::steady_clock::now() - arrived_);
  record_.timing.queue = std::min(queue_, record_.end_to_end);
  if (status_.ok()) record_.timing.prefill = record_.end_to_end - record_.timing.queue;
  model_->metrics().ObserveAnswer(record_);
}

void EncodingCall::AddTo(RequestRecord* record) const {
  record->operation = job_.operation;
  record->answer = record_;
  record->answers = job_.inputs;
  record->finish = FinishName(record_.finish);
  record->finishes = {record->finish};
  record->submitted = arrived_;
}

absl::StatusOr<EncodingResult> EncodingCall::TakeResult() {
  absl::MutexLock lock(&mutex_);
  if (!status_.ok()) return status_;
  return job_.finish(std::move(values_));
}

}  // namespace pregate
