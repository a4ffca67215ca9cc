#include "server/grpc/generate_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/generation/rejection.h"
#include "server/grpc/call_deadline.h"
#include "server/grpc/call_record.h"
#include "server/grpc/library_thread.h"
#include "server/grpc/messages.h"
#include "server/grpc/status.h"

namespace pregate {
GenerateCall* GenerateCall::Begin(const CallEnvironment* environment,
                                  grpc::CallbackServerContext* context,
                                  const v1::GenerateRequest& request) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(environment, context));
  call->Start(request);
  return call.get();
}

void GenerateCall::Start(const v1::GenerateRequest& request) {
  absl::MutexLock lock(&mutex_);
  self_ = shared_from_this();
  request_id_ = request.request_id();
  absl::StatusOr<ClientRequest> wanted =
      FromMessage(request, environment_->model->engine().model().max_model_len);
  if (!wanted.ok()) {
    environment_->model->metrics().CountRejection(RejectionOf(wanted.status()));
    return FinishWith(wanted.status());
  }
  wanted->deadline = DeadlineOf(*context_);
  const std::shared_ptr<StreamPump> pump = environment_->pumps->Of(context_->peer());
  auto generation = Generation::Start(
      environment_->model, *std::move(wanted),
      [pump, stream = std::weak_ptr<PumpedStream>(self_)] { pump->Wake(stream); });
  if (!generation.ok()) return FinishWith(generation.status());
  generation_ = *std::move(generation);
  pump->Add(self_);
}

void GenerateCall::Advance() {
  absl::MutexLock lock(&mutex_);
  if (writing_ || finished_) return;
  if (ready_.empty()) {
    for (AnswerDelta& delta : generation_->Take()) ready_.push_back(std::move(delta));
  }
  if (!left_.ok()) ready_.clear();
  if (!ready_.empty()) {
    response_.Clear();
    ToMessage(ready_.front(), environment_->model->tokenizer(), &response_);
    ready_.pop_front();
    writing_ = true;
    write_started_ = std::chrono::steady_clock::now();
    StartWrite(&response_);
  } else if (generation_->done()) {
    FinishWith(left_.ok() ? generation_->status() : left_);
  }
}

void GenerateCall::OnWriteDone(bool ok) {
  WaitForTurnWhenWoken();
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) Leave(absl::CancelledError("call: the client has left"));
  }
  Advance();
}

void GenerateCall::OnCancel() {
  absl::MutexLock lock(&mutex_);
  if (!finished_) Leave(absl::CancelledError("call: cancelled by the client"));
}

void GenerateCall::CheckStall(std::chrono::steady_clock::time_point now) {
  absl::MutexLock lock(&mutex_);
  if (!writing_ || finished_ || !left_.ok()) return;
  if (absl::FromChrono(now - write_started_) < environment_->stall_timeout) return;
  const Generation::Backlog backlog = generation_->backlog();
  if (!backlog.complete && backlog.tokens < environment_->stall_backlog_tokens) return;
  Leave(absl::CancelledError(absl::StrCat("call: must be read; its reader stalled for ",
                                          absl::FormatDuration(environment_->stall_timeout))));
  context_->TryCancel();  // the write that does not end, ends
}

void GenerateCall::Abort(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (generation_ != nullptr) generation_->Cancel(why);
}

// The call itself ends when the engine has let go of it.
void GenerateCall::Leave(const absl::Status& why) {
  if (left_.ok()) left_ = why;
  if (generation_ != nullptr) generation_->Cancel(why);
}

void GenerateCall::FinishWith(const absl::Status& status) {
  finished_ = true;
  status_ = status;
  Finish(LastStatus(status, context_));
}

void GenerateCall::OnDone() {
  std::shared_ptr<GenerateCall> self;  // outlives the lock
  absl::MutexLock lock(&mutex_);
  self = std::move(self_);
  RequestRecord record = RecordOf(*context_, "Generate", request_id_, status_, arrival_);
  if (generation_ != nullptr) generation_->AddTo(&record);
  environment_->log->Write(record);
}

}  // namespace pregate
