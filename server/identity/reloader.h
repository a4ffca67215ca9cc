// Reloader: tokens and certificates that are replaced while the server runs.
#ifndef PREGATE_SERVER_IDENTITY_RELOADER_H_
#define PREGATE_SERVER_IDENTITY_RELOADER_H_

#include <functional>
#include <string>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/identity/authorizer.h"
#include "server/identity/tls_files.h"

namespace pregate {

// Reads the files again every second, from a thread of its own, and at once when told to.
class Reloader {
 public:
  static constexpr absl::Duration kInterval = absl::Seconds(1);

  struct Listener {
    // A line for the log: something was reloaded, or refused. What is found wrong once may be half
    // of a replacement; it is said when it is still so at the next look, or when asked for by Wake.
    std::function<void(const std::string&)> note;
    // The end of the certificate in force: at the start, and after each reload. Not called without
    // TLS.
    std::function<void(absl::Time)> certificate_expiry;
    // At the start and after each look: whether the files as they are now are in force. Like
    // `note`, false only once that is sure. The second not without TLS.
    std::function<void(bool)> tokens_in_force = [](bool) {};
    std::function<void(bool)> certificates_in_force = [](bool) {};
  };

  // `authorizer` and `tls` (null: there is no TLS) must outlive this.
  Reloader(Authorizer* authorizer, TlsFiles* tls, Listener listener);
  ~Reloader();
  Reloader(const Reloader&) = delete;
  Reloader& operator=(const Reloader&) = delete;

  // Has the files read now. Returns at once; thread-safe.
  void Wake();

 private:
  // One of the two sources, and what has been said about it.
  struct Source {
    std::string failure;  // of the last look; empty: it was sound
    bool said = false;
    bool in_force = true;
  };

  void Run();
  void LookAtTokens(bool asked);
  void LookAtCertificates(bool asked);
  void Say(const absl::Status& status, const std::string& what, bool asked, Source* source);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || woken_; }

  Authorizer* const authorizer_;
  TlsFiles* const tls_;
  const Listener listener_;
  Source tokens_;  // the thread's own, as is:
  Source certificates_;
  absl::Mutex mutex_;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace pregate

#endif  // PREGATE_SERVER_IDENTITY_RELOADER_H_
