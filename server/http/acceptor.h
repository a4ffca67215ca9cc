// Acceptor: takes new connections and gives them to I/O threads. Private to server/http.
#ifndef PREGATE_SERVER_HTTP_ACCEPTOR_H_
#define PREGATE_SERVER_HTTP_ACCEPTOR_H_

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "server/http/io_thread.h"

namespace pregate {

// Works on the first of the threads.
class Acceptor {
 public:
  // All outlive this.
  Acceptor(ServerShare* share, std::vector<std::unique_ptr<IoThread>>* threads);

  // Call before Start. UNAVAILABLE when the address cannot be listened on, FAILED_PRECONDITION when
  // the certificates cannot be used.
  absl::Status Listen();
  int port() const { return port_; }

  // Both thread-safe.
  void Start();
  void Stop();

 private:
  struct Listener {
    explicit Listener(boost::asio::io_context& context) : acceptor(context), pause(context) {}
    boost::asio::ip::tcp::acceptor acceptor;
    boost::asio::steady_timer pause;
  };

  absl::Status Open(const boost::asio::ip::tcp::endpoint& endpoint, bool only_ipv6);
  void Accept(Listener* listener);
  void OnAccepted(boost::asio::ip::tcp::socket socket, IoThread* thread);
  bool MakeRoom();
  void Pause(Listener* listener);

  ServerShare* const share_;
  std::vector<std::unique_ptr<IoThread>>* const threads_;
  std::unique_ptr<TlsSocketMaker> tls_;  // null: plain text
  std::vector<std::unique_ptr<Listener>> listeners_;
  int port_ = 0;
  size_t next_thread_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_ACCEPTOR_H_
