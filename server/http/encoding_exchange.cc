#include "server/http/encoding_exchange.h"

#include <utility>

#include "server/http/http_record.h"

namespace pregate {

void EncodingExchange::Start(const HttpEnvironment* environment,
                             std::shared_ptr<HttpExchange> exchange,
                             absl::StatusOr<EncodingJob> job, Write write, HttpErrorFormat error) {
  std::shared_ptr<EncodingExchange> answer(
      new EncodingExchange(environment, std::move(exchange), std::move(write), error));
  {
    absl::MutexLock lock(&answer->mutex_);
    StreamPump* pump = environment->pump;
    auto call = EncodingCall::Start(
        environment->model, std::move(job),
        [pump, stream = std::weak_ptr<PumpedStream>(answer)] { pump->Wake(stream); });
    if (!call.ok()) return answer->Finish(call.status());
    answer->self_ = answer;
    answer->call_ = *std::move(call);
  }
  environment->pump->Add(answer);
  answer->exchange_->Observe(answer);
}

void EncodingExchange::Advance() {
  std::shared_ptr<EncodingExchange> self;  // outlives the lock
  absl::MutexLock lock(&mutex_);
  if (finished_ || !call_->Advance()) return;
  self = std::move(self_);
  Finish(call_->TakeResult());
}

void EncodingExchange::Finish(const absl::StatusOr<EncodingResult>& result) {
  finished_ = true;
  RequestRecord record = RecordOf(exchange_->request(), result.status());
  if (call_ != nullptr) call_->AddTo(&record);
  environment_->log->Write(record);
  if (gone_) return;
  if (!result.ok()) return exchange_->Respond(HttpRefusal(result.status(), error_));
  HttpResponse response;
  response.body = write_(*result);
  exchange_->Respond(std::move(response));
}

void EncodingExchange::Abort(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (call_ != nullptr) call_->Cancel(why);
}

void EncodingExchange::OnGone(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  gone_ = true;
  call_->Cancel(why);
}

}  // namespace pregate
