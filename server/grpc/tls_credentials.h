// TlsCredentials: TLS for the gRPC listener, with certificates that may be replaced.
#ifndef PREGATE_SERVER_GRPC_TLS_CREDENTIALS_H_
#define PREGATE_SERVER_GRPC_TLS_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/synchronization/mutex.h"
#include "server/identity/tls_files.h"

struct grpc_ssl_server_certificate_config;

namespace pregate {

// Each handshake uses the newest material of `files`; connections that are open stay as they are.
// TLS 1.2 and 1.3 (the library's own bounds). With a client_ca a client must show a certificate of
// it before any call of its is seen. One object serves one port.
class TlsCredentials {
 public:
  // `files` must outlive this, and this the server.
  explicit TlsCredentials(const TlsFiles* files) : files_(files) {}
  TlsCredentials(const TlsCredentials&) = delete;
  TlsCredentials& operator=(const TlsCredentials&) = delete;

  // For ServerBuilder::AddListeningPort.
  std::shared_ptr<grpc::ServerCredentials> ForPort();

  // The new material as the library takes it; null: it is still what it was at the last call.
  grpc_ssl_server_certificate_config* TakeNew();

 private:
  const TlsFiles* const files_;
  absl::Mutex mutex_;
  std::shared_ptr<const TlsMaterial> given_ ABSL_GUARDED_BY(mutex_);
};

// Connections, to any server of this process, that could not agree on TLS. The library tells of
// them in its log only, and not of those that hung up without a word: counted are the messages that
// `CountInLog` is handed.
int64_t FailedHandshakes();
void CountInLog(const char* file, const char* message);

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_TLS_CREDENTIALS_H_
