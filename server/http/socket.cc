#include "server/http/socket.h"

#include <boost/asio/ssl.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using boost::asio::ip::tcp;
using boost::system::error_code;

class Plain : public Socket {
 public:
  explicit Plain(tcp::socket socket) : socket_(std::move(socket)) {}

  void Handshake(std::function<void(const error_code&)> done) override {
    asio::post(socket_.get_executor(), [done = std::move(done)] { done(error_code()); });
  }
  void ReadSome(absl::Span<char> to, Done done) override {
    socket_.async_read_some(asio::buffer(to.data(), to.size()), std::move(done));
  }
  void WriteSome(absl::string_view bytes, Done done) override {
    socket_.async_write_some(asio::buffer(bytes.data(), bytes.size()), std::move(done));
  }
  tcp::socket& tcp() override { return socket_; }

 private:
  tcp::socket socket_;
};

// A connection ends by closing it, without TLS's own farewell: every answer says how long it is.
class Tls : public Socket {
 public:
  Tls(tcp::socket socket, std::shared_ptr<void> owner, ssl::context* context)
      : owner_(std::move(owner)), stream_(std::move(socket), *context) {}

  void Handshake(std::function<void(const error_code&)> done) override {
    stream_.async_handshake(ssl::stream_base::server, std::move(done));
  }
  void ReadSome(absl::Span<char> to, Done done) override {
    stream_.async_read_some(asio::buffer(to.data(), to.size()), std::move(done));
  }
  void WriteSome(absl::string_view bytes, Done done) override {
    stream_.async_write_some(asio::buffer(bytes.data(), bytes.size()), std::move(done));
  }
  tcp::socket& tcp() override { return stream_.next_layer(); }

 private:
  const std::shared_ptr<void> owner_;  // of the context
  ssl::stream<tcp::socket> stream_;
};

}  // namespace

std::unique_ptr<Socket> PlainSocket(tcp::socket socket) {
  return std::make_unique<Plain>(std::move(socket));
}

struct TlsSocketMaker::Context {
  ssl::context context{ssl::context::tls_server};

  error_code Use(const TlsMaterial& material) {
    error_code error;
    context.set_options(ssl::context::no_sslv2 | ssl::context::no_sslv3 | ssl::context::no_tlsv1 |
                            ssl::context::no_tlsv1_1 | ssl::context::no_compression,
                        error);
    if (!error) context.use_certificate_chain(asio::buffer(material.certificate_chain), error);
    if (!error) {
      context.use_private_key(asio::buffer(material.private_key), ssl::context::pem, error);
    }
    if (!error && !material.client_ca.empty()) {
      context.add_certificate_authority(asio::buffer(material.client_ca), error);
      if (!error) {
        context.set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
      }
    }
    // A session that could be taken up again would outlive its certificate.
    SSL_CTX_set_session_cache_mode(context.native_handle(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context.native_handle(), SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    return error;
  }
};

TlsSocketMaker::TlsSocketMaker(const TlsFiles* files) : files_(files) {}
TlsSocketMaker::~TlsSocketMaker() = default;

absl::Status TlsSocketMaker::Prepare() {
  std::shared_ptr<const TlsMaterial> newest = files_->material();
  if (newest == tried_) return status_;
  tried_ = std::move(newest);
  auto context = std::make_shared<Context>();
  if (const error_code error = context->Use(*tried_)) {
    status_ = absl::FailedPreconditionError(
        absl::StrCat("ssl-certfile: must be usable with its key; got ", error.message()));
  } else {
    status_ = absl::OkStatus();
    context_ = std::move(context);
  }
  return status_;
}

std::unique_ptr<Socket> TlsSocketMaker::Make(tcp::socket socket) const {
  return std::make_unique<Tls>(std::move(socket), context_, &context_->context);
}

}  // namespace pregate
