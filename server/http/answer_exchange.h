// AnswerExchange: from a request in some API's form to the answers of the model, over HTTP.
#ifndef PREGATE_SERVER_HTTP_ANSWER_EXCHANGE_H_
#define PREGATE_SERVER_HTTP_ANSWER_EXCHANGE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "server/generation/generation.h"
#include "server/generation/stream_pump.h"
#include "server/http/http_exchange.h"
#include "server/log/request_log.h"

namespace pregate {

// What every route of a model needs. All outlive the routes.
struct HttpEnvironment {
  const ServedModel* model = nullptr;
  StreamPump* pump = nullptr;
  RequestLog* log = nullptr;
};

// How one API words what the model says. Called by one thread at a time.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  // Takes what is new of an answer to prompt number `prompt` (an answer's own number is
  // `delta.index`). Of a stream: the text to send for it; else "".
  virtual std::string Add(int prompt, AnswerDelta delta) = 0;
  // Every answer has ended. Of a stream: its last words (`status` not OK: what cut it); else the
  // body of the response, asked for only if `status` is OK.
  virtual std::string End(const absl::Status& status) = 0;
  // After End, of no stream: what else its response needs to be understood.
  virtual void Complete(HttpResponse* /*response*/) {}
};

// Questions that are answered together.
struct AnswerJob {
  std::vector<ClientRequest> requests;  // one for each prompt
  std::unique_ptr<AnswerFormat> format;
  HttpErrorFormat error = nullptr;
  bool stream = false;
  std::string content_type = "text/event-stream";  // of a stream
};

// Until something has been generated an error is a plain response; afterwards a stream ends with
// the format's last words and its connection is closed. Answers are written one piece at a time;
// what the engine generates meanwhile becomes the next piece. A client that leaves ends its
// generation at once.
class AnswerExchange : public PumpedStream,
                       public HttpObserver,
                       public std::enable_shared_from_this<AnswerExchange> {
 public:
  // Submits the requests and answers the exchange, now or later.
  static void Start(const HttpEnvironment* environment, std::shared_ptr<HttpExchange> exchange,
                    AnswerJob job);
  // Answers what could not even be read as a request, counts it and writes its line of the log.
  static void Refuse(const HttpEnvironment& environment, HttpExchange* exchange,
                     const absl::Status& status, HttpErrorFormat error);

  void Advance() override;
  // The connection itself gives up a client that does not read.
  void CheckStall(std::chrono::steady_clock::time_point now) override;
  void Abort(const absl::Status& why) override;
  void OnWritten() override;
  void OnGone(const absl::Status& why) override;

 private:
  AnswerExchange(const HttpEnvironment* environment, std::shared_ptr<HttpExchange> exchange,
                 AnswerJob job);

  // Those before the one that was refused, if one was.
  struct Submitted {
    std::vector<std::shared_ptr<Generation>> generations;
    absl::Status refused;
  };
  Submitted Submit(std::vector<ClientRequest> requests);
  Generation::Wake Waker();
  void CancelAll(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string NextPiece() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BeginOnce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Outcome() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Finish(std::string piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const HttpEnvironment* const environment_;
  const std::shared_ptr<HttpExchange> exchange_;
  const HttpErrorFormat error_;
  const bool stream_;
  const std::string content_type_;

  absl::Mutex mutex_;
  std::unique_ptr<AnswerFormat> format_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Generation>> generations_ ABSL_GUARDED_BY(mutex_);
  bool submitted_ ABSL_GUARDED_BY(mutex_) = false;                // all of them
  std::shared_ptr<AnswerExchange> self_ ABSL_GUARDED_BY(mutex_);  // until it has finished
  bool has_tokens_ ABSL_GUARDED_BY(mutex_) = false;               // something has been generated
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status refused_ ABSL_GUARDED_BY(mutex_);  // not OK: one of the prompts was
  absl::Status left_ ABSL_GUARDED_BY(mutex_);     // not OK: nothing can be written any more
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_ANSWER_EXCHANGE_H_
