// EncodingExchange: a call for vectors or scores over HTTP.
#ifndef PREGATE_SERVER_HTTP_ENCODING_EXCHANGE_H_
#define PREGATE_SERVER_HTTP_ENCODING_EXCHANGE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/synchronization/mutex.h"
#include "server/embedding/encoding_call.h"
#include "server/generation/stream_pump.h"
#include "server/http/answer_exchange.h"
#include "server/http/http_exchange.h"

namespace pregate {

// Answers with one response when all texts have been read. A client that leaves ends the reading.
class EncodingExchange : public PumpedStream,
                         public HttpObserver,
                         public std::enable_shared_from_this<EncodingExchange> {
 public:
  // The body of the response.
  using Write = std::function<std::string(const EncodingResult&)>;

  // Submits the job, which may be the reason why there is none, and answers now or later.
  static void Start(const HttpEnvironment* environment, std::shared_ptr<HttpExchange> exchange,
                    absl::StatusOr<EncodingJob> job, Write write, HttpErrorFormat error);

  void Advance() override;
  void CheckStall(std::chrono::steady_clock::time_point /*now*/) override {}  // there is no stream
  void Abort(const absl::Status& why) override;
  void OnWritten() override {}
  void OnGone(const absl::Status& why) override;

 private:
  EncodingExchange(const HttpEnvironment* environment, std::shared_ptr<HttpExchange> exchange,
                   Write write, HttpErrorFormat error)
      : environment_(environment),
        exchange_(std::move(exchange)),
        write_(std::move(write)),
        error_(error) {}

  void Finish(const absl::StatusOr<EncodingResult>& result) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const HttpEnvironment* const environment_;
  const std::shared_ptr<HttpExchange> exchange_;
  const Write write_;
  const HttpErrorFormat error_;

  absl::Mutex mutex_;
  std::shared_ptr<EncodingCall> call_ ABSL_GUARDED_BY(mutex_);
  // Held while the engine or the connection may still call.
  std::shared_ptr<EncodingExchange> self_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_ENCODING_EXCHANGE_H_
