// TlsFiles: certificates and keys as PEM files that may be replaced while the server runs.
#ifndef PREGATE_SERVER_IDENTITY_TLS_FILES_H_
#define PREGATE_SERVER_IDENTITY_TLS_FILES_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace pregate {

// Paths, as the flags --ssl-certfile, --ssl-keyfile and --ssl-ca-certs give them.
struct TlsPaths {
  std::string certificate_chain;  // the server's own certificate first; empty: no TLS
  std::string private_key;
  std::string client_ca;  // not empty: clients must show a certificate that one of these signed
  bool enabled() const { return !certificate_chain.empty(); }
};

// What the files hold. Immutable: connections that began with one keep it.
struct TlsMaterial {
  std::string certificate_chain;  // PEM
  std::string private_key;        // PEM
  std::string client_ca;          // PEM; empty: clients need no certificate
  absl::Time not_after;           // of the server's own certificate
};

// Thread-safe.
class TlsFiles {
 public:
  // Null when no path is given: no TLS. FAILED_PRECONDITION: a file cannot be read or holds nothing
  // of its kind, the key is encrypted or does not belong to the certificate, only one of the two is
  // given, or the library would not use them. An expired certificate is taken: who asks for its
  // not_after can say so, and a new one may come while the server runs.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Open(const TlsPaths& paths);
  virtual ~TlsFiles() = default;

  // The newest material that was sound.
  virtual std::shared_ptr<const TlsMaterial> material() const = 0;
  // Reads the files again if they have changed; the old material stays when that fails, or when the
  // new certificate has expired and the old one has not. Connections that are open stay open.
  virtual absl::Status Reload() = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_IDENTITY_TLS_FILES_H_
