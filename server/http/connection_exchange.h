// ConnectionExchange: the HttpExchange of a connection. Private to server/http.
#ifndef PREGATE_SERVER_HTTP_CONNECTION_EXCHANGE_H_
#define PREGATE_SERVER_HTTP_CONNECTION_EXCHANGE_H_

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "server/http/connection.h"

namespace pregate {

// Carries what is answered to the connection's thread.
class ConnectionExchange : public HttpExchange {
 public:
  ConnectionExchange(std::shared_ptr<Mailbox> mailbox, std::weak_ptr<Connection> connection,
                     uint64_t serial, HttpRequest request, HttpErrorFormat error)
      : mailbox_(std::move(mailbox)),
        connection_(std::move(connection)),
        serial_(serial),
        request_(std::move(request)),
        error_(error) {}

  ~ConnectionExchange() override {
    if (ended_) return;
    Respond(HttpRefusal(absl::InternalError("server: gave no answer"), error_));
  }

  HttpRequest& request() override { return request_; }

  void Observe(std::weak_ptr<HttpObserver> observer) override {
    auto observe = [connection = connection_, serial = serial_, observer] {
      const std::shared_ptr<Connection> living = connection.lock();
      if (living != nullptr && living->serial() == serial) return living->Observe(observer);
      TellGone(observer);
    };
    if (!mailbox_->Post(std::move(observe))) TellGone(observer);
  }

  bool PostSoon(std::function<void()> job) override { return mailbox_->PostSoon(std::move(job)); }

  void Respond(HttpResponse response) override {
    ended_ = true;
    Post([response = std::move(response)](Connection* connection) {
      connection->Respond(response);
    });
  }
  void Begin(HttpResponse head) override {
    Post([head = std::move(head)](Connection* connection) { connection->Begin(head); });
  }
  void Write(std::string piece) override {
    Post([piece = std::move(piece)](Connection* connection) { connection->Write(piece); });
  }
  void End(std::string piece) override {
    ended_ = true;
    Post([piece = std::move(piece)](Connection* connection) { connection->End(piece); });
  }
  void Cut(std::string piece) override {
    ended_ = true;
    Post([piece = std::move(piece)](Connection* connection) { connection->CutAnswer(piece); });
  }

 private:
  static void TellGone(const std::weak_ptr<HttpObserver>& observer) {
    if (const auto living = observer.lock()) {
      living->OnGone(absl::CancelledError("call: the client has left"));
    }
  }

  template <typename Do>
  void Post(Do what) {
    mailbox_->Dispatch(
        [connection = connection_, serial = serial_, what = std::move(what)]() mutable {
          const std::shared_ptr<Connection> living = connection.lock();
          if (living != nullptr && living->serial() == serial) what(living.get());
        });
  }

  const std::shared_ptr<Mailbox> mailbox_;
  const std::weak_ptr<Connection> connection_;
  const uint64_t serial_;
  HttpRequest request_;
  const HttpErrorFormat error_;
  std::atomic<bool> ended_ = false;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_CONNECTION_EXCHANGE_H_
