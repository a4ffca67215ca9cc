#include "server/grpc/encoding_reactor.h"

#include <utility>

#include "server/grpc/call_record.h"
#include "server/grpc/status.h"

namespace pregate {

EncodingReactor* EncodingReactor::Begin(const CallEnvironment* environment,
                                        grpc::CallbackServerContext* context, std::string method,
                                        std::string request_id, absl::StatusOr<EncodingJob> job,
                                        Fill fill) {
  std::shared_ptr<EncodingReactor> reactor(new EncodingReactor(
      environment, context, std::move(method), std::move(request_id), std::move(fill)));
  reactor->Start(std::move(job));
  return reactor.get();
}

void EncodingReactor::Start(absl::StatusOr<EncodingJob> job) {
  absl::MutexLock lock(&mutex_);
  self_ = shared_from_this();
  const std::shared_ptr<StreamPump> pump = environment_->pumps->Of(context_->peer());
  auto call = EncodingCall::Start(
      environment_->model, std::move(job),
      [pump, stream = std::weak_ptr<PumpedStream>(self_)] { pump->Wake(stream); });
  if (!call.ok()) return FinishWith(call.status());
  call_ = *std::move(call);
  pump->Add(self_);
}

void EncodingReactor::Advance() {
  absl::MutexLock lock(&mutex_);
  if (finished_ || !call_->Advance()) return;
  const absl::StatusOr<EncodingResult> result = call_->TakeResult();
  if (result.ok()) bytes_ = fill_(*result, call_->record().timing);
  FinishWith(result.status());
}

void EncodingReactor::OnCancel() {
  absl::MutexLock lock(&mutex_);
  if (call_ != nullptr) call_->Cancel(absl::CancelledError("call: cancelled by the client"));
}

void EncodingReactor::CheckStall(std::chrono::steady_clock::time_point now) {
  absl::MutexLock lock(&mutex_);
  if (!finished_ || self_ == nullptr) return;  // null: the call, and its context, are done
  stall_.Check(now, environment_->stall_timeout, context_, &status_);
}

void EncodingReactor::Abort(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (call_ != nullptr) call_->Cancel(why);
}

void EncodingReactor::FinishWith(const absl::Status& status) {
  finished_ = true;
  stall_.Begin(bytes_);
  status_ = status;
  Finish(LastStatus(status, context_));
}

void EncodingReactor::OnDone() {
  std::shared_ptr<EncodingReactor> self;  // outlives the lock
  absl::MutexLock lock(&mutex_);
  self = std::move(self_);
  RequestRecord record = RecordOf(*context_, method_, request_id_, status_, arrival_);
  if (call_ != nullptr) call_->AddTo(&record);
  environment_->log->Write(record);
}

}  // namespace pregate
