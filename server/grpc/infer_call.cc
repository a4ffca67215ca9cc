#include "server/grpc/infer_call.h"

#include <algorithm>
#include <utility>

#include "server/generation/rejection.h"
#include "server/grpc/call_deadline.h"
#include "server/grpc/call_record.h"
#include "server/grpc/status.h"

namespace pregate {

absl::StatusOr<ClientRequest> ReadInferRequest(const CallEnvironment& environment,
                                               const inference::ModelInferRequest& message,
                                               InferMethod method) {
  absl::StatusOr<InferRequest> read = FromMessage(message);
  absl::StatusOr<ClientRequest> wanted =
      read.ok() ? ToClientRequest(*std::move(read), method) : read.status();
  if (!wanted.ok()) environment.model->metrics().CountRejection(RejectionOf(wanted.status()));
  return wanted;
}

InferCall* InferCall::Begin(const CallEnvironment* environment,
                            grpc::CallbackServerContext* context,
                            const inference::ModelInferRequest& request,
                            inference::ModelInferResponse* response) {
  std::shared_ptr<InferCall> call(new InferCall(environment, context, request, response));
  call->Start(request);
  return call.get();
}

void InferCall::Start(const inference::ModelInferRequest& request) {
  absl::MutexLock lock(&mutex_);
  self_ = shared_from_this();
  absl::StatusOr<ClientRequest> wanted =
      ReadInferRequest(*environment_, request, InferMethod::kInfer);
  if (!wanted.ok()) return FinishWith(wanted.status());
  wanted->deadline = std::min(wanted->deadline, DeadlineOf(*context_));
  const std::shared_ptr<StreamPump> pump = environment_->pumps->Of(context_->peer());
  auto generation = Generation::Start(
      environment_->model, *std::move(wanted),
      [pump, stream = std::weak_ptr<PumpedStream>(self_)] { pump->Wake(stream); });
  if (!generation.ok()) return FinishWith(generation.status());
  generation_ = *std::move(generation);
  pump->Add(self_);
}

void InferCall::Advance() {
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  for (const AnswerDelta& delta : generation_->Take()) {
    ToMessage(delta, echo_, *environment_->model, Finality::kUnsaid, response_);
  }
  if (generation_->done()) FinishWith(generation_->status());
}

void InferCall::CheckStall(std::chrono::steady_clock::time_point now) {
  absl::MutexLock lock(&mutex_);
  if (!finished_ || self_ == nullptr) return;  // null: the call, and its context, are done
  stall_.Check(now, environment_->stall_timeout, context_, &status_);
}

void InferCall::Abort(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (generation_ != nullptr) generation_->Cancel(why);
}

// The call itself ends when the engine has let go of it.
void InferCall::OnCancel() { Abort(absl::CancelledError("call: cancelled by the client")); }

void InferCall::FinishWith(const absl::Status& status) {
  finished_ = true;
  stall_.Begin(response_->ByteSizeLong());
  status_ = status;
  Finish(LastStatus(InOwnWords(status), context_));
}

void InferCall::OnDone() {
  std::shared_ptr<InferCall> self;  // outlives the lock
  absl::MutexLock lock(&mutex_);
  self = std::move(self_);
  RequestRecord record = RecordOf(*context_, "ModelInfer", echo_.id, status_, arrival_);
  if (generation_ != nullptr) generation_->AddTo(&record);
  environment_->log->Write(record);
}

}  // namespace pregate
