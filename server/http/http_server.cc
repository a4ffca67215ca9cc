#include "server/http/http_server.h"

#include <utility>

#include "server/http/acceptor.h"
#include "server/http/io_thread.h"

namespace pregate {
namespace {

HttpResponse PlainError(int /*http_status*/, const absl::Status& status) {
  HttpResponse response;
  response.content_type = "text/plain; charset=utf-8";
  response.body = std::string(status.message()) + "\n";
  return response;
}

class Server : public HttpServer {
 public:
  Server(const HttpServerOptions& options, std::vector<HttpRoute> routes)
      : share_(options, std::move(routes)) {
    for (int i = 0; i < options.io_threads; ++i) {
      threads_.push_back(std::make_unique<IoThread>(&share_));
    }
    acceptor_ = std::make_unique<Acceptor>(&share_, &threads_);
  }
  ~Server() override { Shutdown(absl::ZeroDuration()); }

  absl::Status Listen() {
    if (absl::Status status = acceptor_->Listen(); !status.ok()) return status;
    port_ = acceptor_->port();
    acceptor_->Start();
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  int connections() const override {
    absl::MutexLock lock(&share_.mutex);
    return share_.connections;
  }

  void Shutdown(absl::Duration grace) override {
    if (threads_.empty()) return;
    share_.stopping = true;
    acceptor_->Stop();
    for (const auto& thread : threads_) thread->Drain();
    WaitUntilEmpty(grace);
    for (const auto& thread : threads_) {
      thread->CutAll(absl::CancelledError("server: stopping"));
    }
    WaitUntilEmpty(absl::Seconds(1));
    share_.workers.Join();
    for (const auto& thread : threads_) thread->Stop();
    acceptor_.reset();
    threads_.clear();
  }

 private:
  void WaitUntilEmpty(absl::Duration longest) {
    absl::MutexLock lock(&share_.mutex);
    const int* connections = &share_.connections;
    share_.mutex.AwaitWithTimeout(absl::Condition(
                                      +[](const int* count) { return *count == 0; }, connections),
                                  longest);
  }

  mutable ServerShare share_;
  std::vector<std::unique_ptr<IoThread>> threads_;
  std::unique_ptr<Acceptor> acceptor_;
  int port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              std::vector<HttpRoute> routes) {
  HttpServerOptions complete = options;
  if (complete.error == nullptr) complete.error = PlainError;
  auto server = std::make_unique<Server>(complete, std::move(routes));
  if (absl::Status status = server->Listen(); !status.ok()) return status;
  return server;
}

}  // namespace pregate
