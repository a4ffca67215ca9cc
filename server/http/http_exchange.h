// HttpExchange: one request, and whoever answers it.
#ifndef PREGATE_SERVER_HTTP_HTTP_EXCHANGE_H_
#define PREGATE_SERVER_HTTP_HTTP_EXCHANGE_H_

#include <functional>
#include <memory>
#include <string>

#include "server/http/http_message.h"

namespace pregate {

// Told what becomes of an exchange that is answered later. Called on the connection's thread: must
// not block.
class HttpObserver {
 public:
  virtual ~HttpObserver() = default;
  // What Write was given has been handed to the operating system: the next may come.
  virtual void OnWritten() = 0;
  // The client has left, or was given up because it does not read (`why` is CANCELLED and says
  // which). Nothing can be written any more. At most once, and never after the answer's end.
  virtual void OnGone(const absl::Status& why) = 0;
};

// Thread-safe; no method blocks. An answer is one call of Respond, or Begin, any number of Write,
// and then End or Cut. Whatever is called after the client has left does nothing. If all who hold
// an exchange let go of it unanswered, its client gets 500.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  // Stays as it is but for the body, which a handler may move away.
  virtual HttpRequest& request() = 0;

  // From now on `observer` is told, as long as it lives; if the client has left already, at once.
  virtual void Observe(std::weak_ptr<HttpObserver> observer) = 0;

  // Has `job` run on the connection's thread, a little later and together with others that come
  // meanwhile. Cheap: for the engine's thread. False: that thread has ended, `job` will not run.
  virtual bool PostSoon(std::function<void()> job) = 0;

  virtual void Respond(HttpResponse response) = 0;

  // Begins an answer in pieces. `head.body` must be empty: it is sent with the first piece.
  virtual void Begin(HttpResponse head) = 0;
  // One at a time: call again after OnWritten. Empty pieces are not sent, but told of.
  virtual void Write(std::string piece) = 0;
  // Sends the last piece (it may be empty, and another may still be on its way) and ends the
  // answer.
  virtual void End(std::string piece) = 0;
  // Sends `piece`, then closes the connection so that no client can take the answer for whole.
  virtual void Cut(std::string piece) = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_HTTP_EXCHANGE_H_
