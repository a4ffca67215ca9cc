#include "server/identity/tls_files.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/identity/small_file.h"

namespace pregate {
namespace {

constexpr char kCertificateFlag[] = "ssl-certfile";
constexpr char kKeyFlag[] = "ssl-keyfile";
constexpr char kClientCaFlag[] = "ssl-ca-certs";

template <typename T, void (*kFree)(T*)>
struct Free {
  void operator()(T* object) const { kFree(object); }
};
using X509Ptr = std::unique_ptr<X509, Free<X509, X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY, EVP_PKEY_free>>;
using ContextPtr = std::unique_ptr<SSL_CTX, Free<SSL_CTX, SSL_CTX_free>>;

class PemReader {
 public:
  explicit PemReader(const std::string& pem)
      : bio_(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))) {}
  ~PemReader() { BIO_free(bio_); }
  PemReader(const PemReader&) = delete;
  PemReader& operator=(const PemReader&) = delete;

  X509Ptr NextCertificate() {
    return X509Ptr(PEM_read_bio_X509(bio_, nullptr, NoPassword, nullptr));
  }
  KeyPtr Key() { return KeyPtr(PEM_read_bio_PrivateKey(bio_, nullptr, NoPassword, nullptr)); }

 private:
  // The library's own would ask on the terminal.
  static int NoPassword(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*data*/) {
    return -1;
  }

  BIO* bio_;
};

// Why the library has refused something; its queue of errors is empty then.
std::string LibraryError() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason == nullptr ? "unknown reason" : reason;
}

absl::Time NotAfter(const X509* certificate) {
  std::tm time{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &time) != 1) return absl::InfinitePast();
  return absl::FromTM(time, absl::UTCTimeZone());
}

// Puts the server's certificate, and what follows it, into `context`.
absl::Status UseCertificates(const std::string& path, const std::string& pem, SSL_CTX* context,
                             absl::Time* not_after) {
  auto unusable = [&path] {
    return FileError(kCertificateFlag,
                     absl::StrCat("hold a PEM certificate that can be used (", LibraryError(), ")"),
                     path);
  };
  PemReader reader(pem);
  const X509Ptr own = reader.NextCertificate();
  if (own == nullptr || SSL_CTX_use_certificate(context, own.get()) != 1) return unusable();
  *not_after = NotAfter(own.get());
  while (const X509Ptr next = reader.NextCertificate()) {
    if (SSL_CTX_add1_chain_cert(context, next.get()) != 1) return unusable();
  }
  // Reading on until nothing is left leaves "no start line"; anything else is a broken certificate.
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) return unusable();
  ERR_clear_error();
  return absl::OkStatus();
}

absl::Status UseKey(const std::string& path, const std::string& pem, SSL_CTX* context) {
  const KeyPtr key = PemReader(pem).Key();
  if (key == nullptr) {
    return FileError(
        kKeyFlag, absl::StrCat("hold a PEM key without a password (", LibraryError(), ")"), path);
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return FileError(
        kKeyFlag,
        absl::StrCat("belong to the certificate of --ssl-certfile (", LibraryError(), ")"), path);
  }
  return absl::OkStatus();
}

absl::Status CheckAuthorities(const std::string& path, const std::string& pem) {
  PemReader reader(pem);
  int found = 0;
  while (reader.NextCertificate() != nullptr) ++found;
  const bool whole = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string why = LibraryError();
  if (found > 0 && whole) return absl::OkStatus();
  return FileError(kClientCaFlag, absl::StrCat("hold PEM certificates (", why, ")"), path);
}

// What the files hold, found sound by making of it what a server makes of it.
absl::StatusOr<TlsMaterial> Load(const TlsPaths& paths) {
  TlsMaterial material;
  absl::StatusOr<std::string> chain = ReadSmallFile(kCertificateFlag, paths.certificate_chain);
  if (!chain.ok()) return chain.status();
  absl::StatusOr<std::string> key = ReadSmallFile(kKeyFlag, paths.private_key);
  if (!key.ok()) return key.status();

  ERR_clear_error();
  const ContextPtr context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError(absl::StrCat("TLS: ", LibraryError()));
  if (absl::Status status =
          UseCertificates(paths.certificate_chain, *chain, context.get(), &material.not_after);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = UseKey(paths.private_key, *key, context.get()); !status.ok()) {
    return status;
  }
  if (!paths.client_ca.empty()) {
    absl::StatusOr<std::string> authorities = ReadSmallFile(kClientCaFlag, paths.client_ca);
    if (!authorities.ok()) return authorities.status();
    if (absl::Status status = CheckAuthorities(paths.client_ca, *authorities); !status.ok()) {
      return status;
    }
    material.client_ca = *std::move(authorities);
  }
  material.certificate_chain = *std::move(chain);
  material.private_key = *std::move(key);
  return material;
}

bool Same(const TlsMaterial& a, const TlsMaterial& b) {
  return a.certificate_chain == b.certificate_chain && a.private_key == b.private_key &&
         a.client_ca == b.client_ca;
}

class FilesOnDisk : public TlsFiles {
 public:
  explicit FilesOnDisk(TlsPaths paths) : paths_(std::move(paths)) {}

  std::shared_ptr<const TlsMaterial> material() const override {
    absl::MutexLock lock(&mutex_);
    return material_;
  }

  absl::Status Reload() override {
    absl::StatusOr<TlsMaterial> read = Load(paths_);
    if (!read.ok()) return read.status();
    const absl::Time now = absl::Now();
    absl::MutexLock lock(&mutex_);
    if (material_ != nullptr && Same(*material_, *read)) return absl::OkStatus();
    if (material_ != nullptr && read->not_after <= now && material_->not_after > now) {
      return FileError(kCertificateFlag, "not have expired, as the one in use has not",
                       paths_.certificate_chain);
    }
    material_ = std::make_shared<const TlsMaterial>(*std::move(read));
    return absl::OkStatus();
  }

 private:
  const TlsPaths paths_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<const TlsMaterial> material_
      ABSL_GUARDED_BY(mutex_);  // null before the first read
};

}  // namespace

absl::StatusOr<std::unique_ptr<TlsFiles>> TlsFiles::Open(const TlsPaths& paths) {
  if (paths.certificate_chain.empty() != paths.private_key.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("ssl-certfile, ssl-keyfile: must be given both or neither; got one"));
  }
  if (!paths.enabled()) {
    if (paths.client_ca.empty()) return nullptr;
    return FileError(kClientCaFlag, "come with --ssl-certfile and --ssl-keyfile", paths.client_ca);
  }
  auto files = std::make_unique<FilesOnDisk>(paths);
  if (absl::Status status = files->Reload(); !status.ok()) return status;
  return files;
}

}  // namespace pregate
