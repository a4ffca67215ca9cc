#include "server/http/answer_exchange.h"

#include <algorithm>
#include <utility>

#include "server/generation/rejection.h"
#include "server/http/http_record.h"

namespace pregate {
namespace {

constexpr size_t kOutputsOfAPiece = 64;  // of each prompt

}  // namespace

AnswerExchange::AnswerExchange(const HttpEnvironment* environment,
                               std::shared_ptr<HttpExchange> exchange, AnswerJob job)
    : environment_(environment),
      exchange_(std::move(exchange)),
      error_(job.error),
      stream_(job.stream),
      content_type_(std::move(job.content_type)),
      format_(std::move(job.format)) {}

void AnswerExchange::Start(const HttpEnvironment* environment,
                           std::shared_ptr<HttpExchange> exchange, AnswerJob job) {
  std::vector<ClientRequest> requests = std::move(job.requests);
  std::shared_ptr<AnswerExchange> answer(
      new AnswerExchange(environment, std::move(exchange), std::move(job)));
  // First of all: a piece whose end nobody is told would be the last.
  answer->exchange_->Observe(answer);
  // Reading long prompts takes its time: without the lock, which a thread of many streams may be
  // waiting for.
  Submitted submitted = answer->Submit(std::move(requests));
  {
    absl::MutexLock lock(&answer->mutex_);
    answer->self_ = answer;
    answer->generations_ = std::move(submitted.generations);
    answer->refused_ = submitted.refused;
    answer->submitted_ = true;
    if (!answer->left_.ok()) {
      answer->CancelAll(answer->left_);
    } else if (!submitted.refused.ok()) {
      answer->CancelAll(absl::CancelledError("call: another prompt of it was refused"));
    }
  }
  environment->pump->Add(answer);
  answer->Advance();  // what it was woken for before it was ready
}

void AnswerExchange::Refuse(const HttpEnvironment& environment, HttpExchange* exchange,
                            const absl::Status& status, HttpErrorFormat error) {
  environment.model->metrics().CountRejection(RejectionOf(status));
  environment.log->Write(RecordOf(exchange->request(), status));
  exchange->Respond(HttpRefusal(status, error));
}

// When one of them is refused, those before it end too, and it decides what the client is told.
AnswerExchange::Submitted AnswerExchange::Submit(std::vector<ClientRequest> requests) {
  Submitted submitted;
  for (ClientRequest& request : requests) {
    request.stream = stream_;
    auto generation = Generation::Start(environment_->model, std::move(request), Waker());
    if (!generation.ok()) {
      submitted.refused = generation.status();
      break;
    }
    submitted.generations.push_back(*std::move(generation));
  }
  return submitted;
}

// A stream is worded and written by its connection's own thread. A whole answer may be large: the
// pump's thread words it, for which no stream waits.
Generation::Wake AnswerExchange::Waker() {
  StreamPump* pump = environment_->pump;
  const std::weak_ptr<AnswerExchange> self = weak_from_this();
  if (!stream_) return [pump, self] { pump->Wake(self); };
  return [pump, self, exchange = exchange_] {
    const bool posted = exchange->PostSoon([self] {
      if (const std::shared_ptr<AnswerExchange> answer = self.lock()) answer->Advance();
    });
    if (!posted) pump->Wake(self);
  };
}

void AnswerExchange::Advance() {
  std::shared_ptr<AnswerExchange> self;  // outlives the lock
  absl::MutexLock lock(&mutex_);
  if (!submitted_ || writing_ || finished_) return;
  std::string piece = NextPiece();
  const bool done = std::all_of(generations_.begin(), generations_.end(),
                                [](const auto& generation) { return generation->done(); });
  if (done) {
    self = std::move(self_);
    Finish(std::move(piece));
  } else if (!piece.empty() && left_.ok()) {
    BeginOnce();
    writing_ = true;
    exchange_->Write(std::move(piece));
  }
}

// A client that had stopped reading may have left much to be worded, for which the other streams of
// the thread would have to wait: the rest comes with the next piece.
std::string AnswerExchange::NextPiece() {
  std::string piece;
  for (bool more = true; more && piece.empty();) {
    more = false;
    for (size_t prompt = 0; prompt < generations_.size(); ++prompt) {
      for (AnswerDelta& delta : generations_[prompt]->Take(kOutputsOfAPiece)) {
        has_tokens_ = has_tokens_ || !delta.token_ids.empty();
        if (left_.ok()) piece += format_->Add(static_cast<int>(prompt), std::move(delta));
      }
      more |= generations_[prompt]->has_more();
    }
  }
  return piece;
}

void AnswerExchange::BeginOnce() {
  if (std::exchange(begun_, true)) return;
  HttpResponse head;
  head.content_type = content_type_;
  head.headers = {{"cache-control", "no-cache"}, {"x-accel-buffering", "no"}};
  exchange_->Begin(std::move(head));
}

absl::Status AnswerExchange::Outcome() const {
  if (!left_.ok()) return left_;
  if (!refused_.ok()) return refused_;
  for (const auto& generation : generations_) {
    if (!generation->status().ok()) return generation->status();
  }
  return absl::OkStatus();
}

void AnswerExchange::Finish(std::string piece) {
  finished_ = true;
  const absl::Status status = Outcome();
  RequestRecord record = RecordOf(exchange_->request(), status);
  if (begun_) record.http_status = 200;  // whatever cut it
  for (const auto& generation : generations_) generation->AddTo(&record);
  environment_->log->Write(record);
  if (!left_.ok()) return;
  if (status.ok() && !stream_) {
    HttpResponse response;
    response.body = format_->End(status);
    format_->Complete(&response);
    return exchange_->Respond(std::move(response));
  }
  // As long as nothing has been said, a status can be.
  if (!status.ok() && !begun_ && !(stream_ && has_tokens_)) {
    return exchange_->Respond(HttpRefusal(status, error_));
  }
  BeginOnce();
  piece += format_->End(status);
  if (status.ok()) {
    exchange_->End(std::move(piece));
  } else {
    exchange_->Cut(std::move(piece));
  }
}

// The connection itself gives up a client that does not read: see HttpServer.
void AnswerExchange::CheckStall(std::chrono::steady_clock::time_point /*now*/) {}

void AnswerExchange::Abort(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  CancelAll(why);
}

void AnswerExchange::OnWritten() {
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
  }
  Advance();
}

void AnswerExchange::OnGone(const absl::Status& why) {
  {
    absl::MutexLock lock(&mutex_);
    left_ = why;
    writing_ = false;
    CancelAll(why);
  }
  Advance();  // what the engine has ended already it does not tell again
}

void AnswerExchange::CancelAll(const absl::Status& why) {
  for (const auto& generation : generations_) generation->Cancel(why);
}

}  // namespace pregate
