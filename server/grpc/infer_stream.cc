#include "server/grpc/infer_stream.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/grpc/call_deadline.h"
#include "server/grpc/call_record.h"
#include "server/grpc/infer_call.h"
#include "server/grpc/library_thread.h"
#include "server/grpc/status.h"

namespace pregate {
namespace {

constexpr char kEmptyFinalParameter[] = "triton_enable_empty_final_response";
constexpr char kMethod[] = "ModelStreamInfer";
// Responses that may wait for the client before no more requests are read.
constexpr size_t kMaxReady = 1024;

bool WantsEmptyFinal(const inference::ModelInferRequest& request) {
  const auto found = request.parameters().find(kEmptyFinalParameter);
  return found != request.parameters().end() && found->second.bool_param();
}

}  // namespace

InferStream* InferStream::Begin(const CallEnvironment* environment,
                                grpc::CallbackServerContext* context) {
  std::shared_ptr<InferStream> stream(new InferStream(environment, context));
  environment->pumps->Of(context->peer())->Add(stream);
  absl::MutexLock lock(&stream->mutex_);
  stream->self_ = stream;
  stream->ReadMore();
  return stream.get();
}

void InferStream::ReadMore() {
  if (reading_ || half_closed_ || !left_.ok() || !aborted_.ok()) return;
  if (items_.size() >= kMaxRequests || ready_.size() >= kMaxReady) return;
  reading_ = true;
  request_.Clear();
  StartRead(&request_);
}

void InferStream::OnReadDone(bool ok) {
  request_arrival_ = Arrival();
  // Reading a long text takes its time: without the lock, which a pump may be waiting for.
  {
    absl::MutexLock lock(&mutex_);
    submitting_ = ok;  // the call does not finish meanwhile
  }
  absl::StatusOr<Item> item = ok ? Submit() : absl::CancelledError("call: nothing more is sent");
  absl::MutexLock lock(&mutex_);
  submitting_ = false;
  if (ok) {
    Accept(std::move(item));
  } else {
    half_closed_ = true;
  }
  reading_ = false;
  AdvanceLocked();
}

void InferStream::Accept(absl::StatusOr<Item> item) {
  if (!item.ok()) {
    environment_->log->Write(
        RecordOf(*context_, kMethod, request_.id(), item.status(), request_arrival_));
    return QueueError(EchoOf(request_), item.status());
  }
  for (const absl::Status& ended : {left_, aborted_}) {
    if (!ended.ok()) item->generation->Cancel(ended);
  }
  items_.push_back(*std::move(item));
}

absl::StatusOr<InferStream::Item> InferStream::Submit() {
  absl::StatusOr<ClientRequest> wanted =
      ReadInferRequest(*environment_, request_, InferMethod::kStreamInfer);
  if (!wanted.ok()) return wanted.status();
  wanted->deadline = std::min(wanted->deadline, DeadlineOf(*context_));
  const std::shared_ptr<StreamPump> pump = environment_->pumps->Of(context_->peer());
  // What it wakes the stream for before it is one of its items, Accept will find.
  auto generation = Generation::Start(
      environment_->model, *std::move(wanted),
      [pump, stream = std::weak_ptr<PumpedStream>(weak_from_this())] { pump->Wake(stream); });
  if (!generation.ok()) return generation.status();
  return Item{request_arrival_, EchoOf(request_), WantsEmptyFinal(request_),
              *std::move(generation)};
}

void InferStream::Advance() {
  absl::MutexLock lock(&mutex_);
  AdvanceLocked();
}

void InferStream::AdvanceLocked() {
  if (finished_) return;
  if (!writing_ && ready_.empty()) Collect();
  if (!left_.ok() && !writing_) {
    ready_.clear();
    Collect();  // what the engine has let go of
    ready_.clear();
  }
  ReadMore();
  if (writing_) return;
  if (!ready_.empty()) {
    writing_ = true;
    write_started_ = std::chrono::steady_clock::now();
    StartWrite(&ready_.front());
  } else if (items_.empty() && !submitting_ && (half_closed_ || !left_.ok() || !aborted_.ok())) {
    finished_ = true;
    Finish(ToGrpcStatus(left_.ok() ? aborted_ : left_, absl::ZeroDuration()));
  }
}

// Takes what is new of every request, and drops those that have ended.
void InferStream::Collect() {
  for (auto it = items_.begin(); it != items_.end();) {
    Item& item = *it;
    for (const AnswerDelta& delta : item.generation->Take()) Queue(item, delta);
    if (item.generation->done()) {
      QueueEnd(item);
      RequestRecord record =
          RecordOf(*context_, kMethod, item.echo.id, item.generation->status(), item.arrival);
      item.generation->AddTo(&record);
      environment_->log->Write(record);
      it = items_.erase(it);
    } else {
      ++it;
    }
  }
}

void InferStream::Queue(const Item& item, const AnswerDelta& delta) {
  const bool ended = delta.finish != FinishReason::kNone;
  // How it went wrong is the last word then.
  const bool more = !ended || item.empty_final || !item.generation->status().ok();
  ToMessage(delta, item.echo, *environment_->model, more ? Finality::kMore : Finality::kFinal,
            ready_.emplace_back().mutable_infer_response());
}

void InferStream::QueueEnd(const Item& item) {
  const absl::Status& status = item.generation->status();
  if (!status.ok()) return QueueError(item.echo, status);
  if (!item.empty_final) return;
  StartMessage(item.echo, *environment_->model, Finality::kFinal,
               ready_.emplace_back().mutable_infer_response());
}

void InferStream::QueueError(const InferEcho& echo, const absl::Status& status) {
  inference::ModelStreamInferResponse& response = ready_.emplace_back();
  response.set_error_message(std::string(InOwnWords(status).message()));
  StartMessage(echo, *environment_->model, Finality::kFinal, response.mutable_infer_response());
}

void InferStream::OnWriteDone(bool ok) {
  WaitForTurnWhenWoken();
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  ready_.pop_front();
  if (!ok) Leave(absl::CancelledError("call: the client has left"));
  AdvanceLocked();
}

void InferStream::OnCancel() {
  absl::MutexLock lock(&mutex_);
  if (!finished_) Leave(absl::CancelledError("call: cancelled by the client"));
  AdvanceLocked();
}

void InferStream::CheckStall(std::chrono::steady_clock::time_point now) {
  absl::MutexLock lock(&mutex_);
  if (!writing_ || finished_ || !left_.ok()) return;
  if (absl::FromChrono(now - write_started_) < environment_->stall_timeout) return;
  int64_t tokens = static_cast<int64_t>(ready_.size());
  bool complete = true;
  for (const Item& item : items_) {
    const Generation::Backlog backlog = item.generation->backlog();
    tokens += backlog.tokens;
    complete = complete && backlog.complete;
  }
  if (!complete && tokens < environment_->stall_backlog_tokens) return;
  Leave(absl::CancelledError(absl::StrCat("call: must be read; its reader stalled for ",
                                          absl::FormatDuration(environment_->stall_timeout))));
  context_->TryCancel();  // the write that does not end, ends
}

void InferStream::Abort(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (aborted_.ok()) aborted_ = why;
  for (const Item& item : items_) item.generation->Cancel(why);
  AdvanceLocked();
}

// The call itself ends when the engine has let go of its requests.
void InferStream::Leave(const absl::Status& why) {
  if (left_.ok()) left_ = why;
  for (const Item& item : items_) item.generation->Cancel(why);
}

void InferStream::OnDone() {
  std::shared_ptr<InferStream> self;  // outlives the lock
  absl::MutexLock lock(&mutex_);
  self = std::move(self_);
}

}  // namespace pregate
