// A listener whose routes answer nothing but what a test wants.
#ifndef PREGATE_TESTS_SERVER_HTTP_SERVER_FIXTURE_H_
#define PREGATE_TESTS_SERVER_HTTP_SERVER_FIXTURE_H_

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "server/http/http_server.h"
#include "tests/server/http_client.h"

namespace pregate {

inline HttpResponse TestError(int http_status, const absl::Status& status) {
  HttpResponse response;
  response.content_type = "text/plain";
  response.body = absl::StrCat(http_status, " ", std::string(status.message()));
  return response;
}

// Writes pieces of `bytes` as fast as the client takes them.
class Firehose : public HttpObserver, public std::enable_shared_from_this<Firehose> {
 public:
  void Start(std::shared_ptr<HttpExchange> exchange, size_t bytes) {
    exchange_ = std::move(exchange);
    piece_.assign(bytes, 'x');
    exchange_->Observe(weak_from_this());
    exchange_->Begin({});
    exchange_->Write(piece_);
  }
  void OnWritten() override {
    written_ += static_cast<int64_t>(piece_.size());
    exchange_->Write(piece_);
  }
  void OnGone(const absl::Status& why) override {
    why_ = why;
    gone_.Notify();
  }
  int64_t written() const { return written_; }
  // Why the client is gone, once it is.
  absl::Status AwaitGone() {
    return gone_.WaitForNotificationWithTimeout(absl::Seconds(20)) ? why_ : absl::OkStatus();
  }

 private:
  std::shared_ptr<HttpExchange> exchange_;
  std::string piece_;
  std::atomic<int64_t> written_ = 0;
  absl::Status why_;
  absl::Notification gone_;
};

// Answers when it is told to.
class Waiter : public HttpObserver {
 public:
  explicit Waiter(std::shared_ptr<HttpExchange> exchange) : exchange_(std::move(exchange)) {}
  HttpExchange& exchange() { return *exchange_; }
  void OnWritten() override {}
  void OnGone(const absl::Status& why) override {
    why_ = why;
    gone_at_ = absl::Now();
    gone_.Notify();
  }
  bool AwaitGone() { return gone_.WaitForNotificationWithTimeout(absl::Seconds(20)); }
  absl::Status why() const { return why_; }
  absl::Time gone_at() const { return gone_at_; }

 private:
  std::shared_ptr<HttpExchange> exchange_;
  absl::Status why_;
  absl::Time gone_at_;
  absl::Notification gone_;
};

class HttpServerFixture : public ::testing::Test {
 protected:
  void Start(HttpServerOptions options = {}) {
    options.error = TestError;
    options.on_refused = [this](const HttpRequest&, const absl::Status&) { ++refused_; };
    auto server = HttpServer::Start(options, Routes());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  static HttpRoute Route(const char* method, const char* path,
                         std::function<void(std::shared_ptr<HttpExchange>)> handler) {
    HttpRoute route;
    route.method = method;
    route.path = path;
    route.handler = std::move(handler);
    return route;
  }

  std::vector<HttpRoute> Routes() {
    auto echo = [](const std::shared_ptr<HttpExchange>& exchange) {
      const HttpRequest& request = exchange->request();
      HttpResponse response;
      response.content_type = "text/plain";
      response.body = absl::StrCat(request.method, " ", request.path, "?", request.query);
      for (const std::string& param : request.params) absl::StrAppend(&response.body, " ", param);
      absl::StrAppend(&response.body, " ", request.client, "|", request.body);
      exchange->Respond(std::move(response));
    };
    std::vector<HttpRoute> routes = {
        Route("GET", "/open", echo),
        Route("GET", "/a", echo),
        Route("POST", "/a", echo),
        Route("POST", "/size",
              [](const std::shared_ptr<HttpExchange>& exchange) {
                HttpResponse response;
                response.body = absl::StrCat(exchange->request().body.size());
                exchange->Respond(std::move(response));
              }),
        Route("GET", "/items/{name}/end", echo),
        Route("GET", "/items/{name...}", echo),
        Route("GET", "/silent", [](const std::shared_ptr<HttpExchange>&) {}),
        Route("GET", "/pieces",
              [](const std::shared_ptr<HttpExchange>& exchange) {
                exchange->Begin({});
                exchange->Write("one ");
                exchange->Write("");
                exchange->End("two");
              }),
        Route("GET", "/cut",
              [](const std::shared_ptr<HttpExchange>& exchange) {
                exchange->Begin({});
                exchange->Cut("one");
              }),
        Route("GET", "/firehose",
              [this](std::shared_ptr<HttpExchange> exchange) {
                firehose_ = std::make_shared<Firehose>();
                firehose_->Start(std::move(exchange), 4096);
                started_.Notify();
              }),
        Route("GET", "/wait", [this](const std::shared_ptr<HttpExchange>& exchange) {
          auto waiter = std::make_shared<Waiter>(exchange);
          exchange->Observe(waiter);
          absl::MutexLock lock(&mutex_);
          waiters_.push_back(waiter);
        })};
    routes[0].needs_token = false;
    return routes;
  }

  std::shared_ptr<Waiter> AwaitWaiter(size_t index = 0) {
    for (int i = 0; i < 2000; ++i, absl::SleepFor(absl::Milliseconds(10))) {
      absl::MutexLock lock(&mutex_);
      if (waiters_.size() > index) return waiters_[index];
    }
    return nullptr;
  }

  // The server still serves, whatever was done to it.
  void TearDown() override {
    if (server_ == nullptr) return;
    HttpClient client(server_->port());
    EXPECT_EQ(client.Ask(GetText("/open")).status, 200);
    client.Close();
    server_->Shutdown(absl::ZeroDuration());
    EXPECT_EQ(server_->connections(), 0);
  }

  std::atomic<int> refused_ = 0;
  std::shared_ptr<Firehose> firehose_;
  absl::Notification started_;
  absl::Mutex mutex_;
  std::vector<std::shared_ptr<Waiter>> waiters_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<HttpServer> server_;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_HTTP_SERVER_FIXTURE_H_
