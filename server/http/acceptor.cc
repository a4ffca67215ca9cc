#include "server/http/acceptor.h"

#include <algorithm>
#include <boost/asio/ip/v6_only.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

// Of what is sent and not taken yet by a client. Bounds what a slow reader costs.
constexpr int kSendBufferBytes = 128 << 10;
constexpr std::chrono::milliseconds kPause(100);

// As gRPC writes it.
std::string NameOf(const tcp::endpoint& peer) {
  const std::string address = peer.address().to_string();
  return peer.address().is_v6() ? absl::StrCat("ipv6:[", address, "]:", peer.port())
                                : absl::StrCat("ipv4:", address, ":", peer.port());
}

}  // namespace

Acceptor::Acceptor(ServerShare* share, std::vector<std::unique_ptr<IoThread>>* threads)
    : share_(share), threads_(threads) {
  if (share->options.tls != nullptr) tls_ = std::make_unique<TlsSocketMaker>(share->options.tls);
}

absl::Status Acceptor::Listen() {
  if (tls_ != nullptr) {
    if (absl::Status status = tls_->Prepare(); !status.ok()) return status;
  }
  const HttpServerOptions& options = share_->options;
  port_ = options.port;
  tcp::resolver resolver(threads_->front()->context());
  error_code error;
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
  absl::Status status = absl::UnavailableError(absl::StrCat(
      "port: must be free, on an address of this machine; got ", options.host, ":", options.port));
  if (error) return status;
  // A name may stand for several addresses: as many as can be had are listened on.
  for (const auto& entry : found) {
    tcp::endpoint endpoint = entry.endpoint();
    endpoint.port(static_cast<uint16_t>(port_));
    if (Open(endpoint, found.size() > 1).ok()) status = absl::OkStatus();
  }
  return status;
}

absl::Status Acceptor::Open(const tcp::endpoint& endpoint, bool only_ipv6) {
  auto listener = std::make_unique<Listener>(threads_->front()->context());
  tcp::acceptor& acceptor = listener->acceptor;
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  // A restart need not wait for the old connections' ends.
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error && only_ipv6 && endpoint.address().is_v6()) {
    acceptor.set_option(boost::asio::ip::v6_only(true), error);
  }
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error) return absl::UnavailableError(error.message());
  port_ = acceptor.local_endpoint(error).port();
  listeners_.push_back(std::move(listener));
  return absl::OkStatus();
}

void Acceptor::Start() {
  threads_->front()->mailbox()->Post([this] {
    for (const auto& listener : listeners_) Accept(listener.get());
  });
}

void Acceptor::Stop() {
  threads_->front()->mailbox()->Post([this] {
    for (const auto& listener : listeners_) {
      error_code ignored;
      listener->acceptor.close(ignored);
      listener->pause.cancel();
    }
  });
}

void Acceptor::Accept(Listener* listener) {
  IoThread* thread = (*threads_)[next_thread_++ % threads_->size()].get();
  listener->acceptor.async_accept(
      thread->context(), [this, listener, thread](const error_code& error, tcp::socket socket) {
        if (!listener->acceptor.is_open()) return;
        if (!error) {
          OnAccepted(std::move(socket), thread);
        } else if (error != boost::asio::error::connection_aborted) {
          return Pause(listener);
        }
        Accept(listener);
      });
}

// No file descriptors are left, or no memory for another: who waits is taken when there are again.
void Acceptor::Pause(Listener* listener) {
  MakeRoom();
  listener->pause.expires_after(kPause);
  listener->pause.async_wait([this, listener](const error_code& error) {
    if (!error && listener->acceptor.is_open()) Accept(listener);
  });
}

void Acceptor::OnAccepted(tcp::socket socket, IoThread* thread) {
  error_code error;
  const tcp::endpoint peer = socket.remote_endpoint(error);
  if (error) return;  // it has left already
  socket.set_option(tcp::no_delay(true), error);
  socket.set_option(boost::asio::socket_base::keep_alive(true), error);
  socket.set_option(boost::asio::socket_base::send_buffer_size(kSendBufferBytes), error);
  bool full;
  {
    absl::MutexLock lock(&share_->mutex);
    full = ++share_->connections > share_->options.max_connections;
  }
  const bool turn_away = full && !MakeRoom();
  // If newer material cannot be used, what was used before stays in force.
  if (tls_ != nullptr) static_cast<void>(tls_->Prepare());
  // Whom there is no room for is not worth a handshake: what it reads is plain text, or nothing.
  std::shared_ptr<Socket> shared =
      tls_ == nullptr || turn_away ? PlainSocket(std::move(socket)) : tls_->Make(std::move(socket));
  thread->mailbox()->Post(
      [thread, shared, name = NameOf(peer), turn_away] { thread->Adopt(shared, name, turn_away); });
}

// Closes the connection that has been idle longest, if one is.
bool Acceptor::MakeRoom() {
  const auto oldest = std::min_element(
      threads_->begin(), threads_->end(),
      [](const auto& a, const auto& b) { return a->idle_since() < b->idle_since(); });
  if ((*oldest)->idle_since() == IoThread::kNoneIdle) return false;
  (*oldest)->CloseOldestIdle();
  return true;
}

}  // namespace pregate
