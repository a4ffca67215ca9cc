// Socket: an accepted connection's bytes, plain or through TLS.
#ifndef PREGATE_SERVER_HTTP_SOCKET_H_
#define PREGATE_SERVER_HTTP_SOCKET_H_

#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/identity/tls_files.h"

namespace pregate {

// For one thread, the one that runs the socket's io_context. At most one read and one write at a
// time; `done` is called later, never from within.
class Socket {
 public:
  using Done = std::function<void(const boost::system::error_code& error, size_t bytes)>;
  virtual ~Socket() = default;

  virtual void Handshake(std::function<void(const boost::system::error_code& error)> done) = 0;
  virtual void ReadSome(absl::Span<char> to, Done done) = 0;
  virtual void WriteSome(absl::string_view bytes, Done done) = 0;
  virtual boost::asio::ip::tcp::socket& tcp() = 0;
};

std::unique_ptr<Socket> PlainSocket(boost::asio::ip::tcp::socket socket);

// Makes sockets that speak TLS with the newest material. For one thread.
class TlsSocketMaker {
 public:
  // `files` must outlive this and what it makes.
  explicit TlsSocketMaker(const TlsFiles* files);
  ~TlsSocketMaker();

  // FAILED_PRECONDITION: the material cannot be used.
  absl::Status Prepare();
  // With the material of the last Prepare that succeeded, of which there must be one.
  std::unique_ptr<Socket> Make(boost::asio::ip::tcp::socket socket) const;

 private:
  struct Context;
  const TlsFiles* files_;
  std::shared_ptr<const TlsMaterial> tried_;  // last
  absl::Status status_;                       // of that
  std::shared_ptr<Context> context_;          // of the last that could be used
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_SOCKET_H_
