#include "server/grpc/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <atomic>
#include <string>

#include "absl/strings/match.h"

namespace pregate {
namespace {

std::atomic<int64_t> failed_handshakes = 0;

// The C++ interface to this part of the C library is experimental and reads files by itself, with
// no look at whether they belong together; the C library's own is public and asks for material at
// each handshake.
class PortCredentials : public grpc::ServerCredentials {
 public:
  explicit PortCredentials(grpc_server_credentials* credentials) : credentials_(credentials) {}
  ~PortCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

grpc_ssl_certificate_config_reload_status Fetch(void* user_data,
                                                grpc_ssl_server_certificate_config** config) {
  *config = static_cast<TlsCredentials*>(user_data)->TakeNew();
  return *config == nullptr ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED
                            : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

}  // namespace

std::shared_ptr<grpc::ServerCredentials> TlsCredentials::ForPort() {
  const bool mutual = !files_->material()->client_ca.empty();
  grpc_ssl_server_credentials_options* options =
      grpc_ssl_server_credentials_create_options_using_config_fetcher(
          mutual ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                 : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
          Fetch, this);
  // Takes the options.
  return std::make_shared<PortCredentials>(
      grpc_ssl_server_credentials_create_with_options(options));
}

grpc_ssl_server_certificate_config* TlsCredentials::TakeNew() {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<const TlsMaterial> material = files_->material();
  if (material == given_) return nullptr;
  given_ = std::move(material);
  const grpc_ssl_pem_key_cert_pair pair = {given_->private_key.c_str(),
                                           given_->certificate_chain.c_str()};
  // The library insists on some authorities, even where clients are asked for no certificate.
  const std::string& authorities =
      given_->client_ca.empty() ? given_->certificate_chain : given_->client_ca;
  return grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
}

int64_t FailedHandshakes() { return failed_handshakes.load(std::memory_order_relaxed); }

void CountInLog(const char* file, const char* message) {
  if (absl::EndsWith(file, "ssl_transport_security.cc") &&
      absl::StartsWith(message, "Handshake failed")) {
    failed_handshakes.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace pregate
