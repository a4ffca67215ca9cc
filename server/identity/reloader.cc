#include "server/identity/reloader.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {

Reloader::Reloader(Authorizer* authorizer, TlsFiles* tls, Listener listener)
    : authorizer_(authorizer), tls_(tls), listener_(std::move(listener)) {
  listener_.tokens_in_force(true);
  if (tls_ != nullptr) {
    listener_.certificate_expiry(tls_->material()->not_after);
    listener_.certificates_in_force(true);
  }
  thread_ = std::thread([this] { Run(); });
}

Reloader::~Reloader() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void Reloader::Wake() {
  absl::MutexLock lock(&mutex_);
  woken_ = true;
}

void Reloader::Run() {
  for (;;) {
    bool asked;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(this, &Reloader::HasWork), kInterval);
      if (stopping_) return;
      asked = std::exchange(woken_, false);
    }
    LookAtTokens(asked);
    if (tls_ != nullptr) LookAtCertificates(asked);
  }
}

void Reloader::LookAtTokens(bool asked) {
  const int64_t before = authorizer_->reloads();
  Say(authorizer_->Reload(), "tokens", asked, &tokens_);
  listener_.tokens_in_force(tokens_.in_force);
  if (authorizer_->reloads() != before) listener_.note("tokens: reloaded");
}

void Reloader::LookAtCertificates(bool asked) {
  const std::shared_ptr<const TlsMaterial> before = tls_->material();
  Say(tls_->Reload(), "certificates", asked, &certificates_);
  listener_.certificates_in_force(certificates_.in_force);
  const std::shared_ptr<const TlsMaterial> now = tls_->material();
  if (now == before) return;
  listener_.certificate_expiry(now->not_after);
  listener_.note(
      absl::StrCat("certificates: reloaded, valid until ",
                   absl::FormatTime(absl::RFC3339_sec, now->not_after, absl::UTCTimeZone())));
}

void Reloader::Say(const absl::Status& status, const std::string& what, bool asked,
                   Source* source) {
  std::string failure(status.message());
  const bool again = failure == source->failure;
  if (!again) *source = {std::move(failure), false, source->in_force || status.ok()};
  if (status.ok() || !(asked || (again && !source->said))) return;
  source->said = true;
  source->in_force = false;
  listener_.note(absl::StrCat(what, ": not reloaded, the old ones stay: ", source->failure));
}

}  // namespace pregate
