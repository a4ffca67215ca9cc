#include "server/tracing/host_lookup.h"

#include <netdb.h>
#include <sys/socket.h>

#include <array>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

namespace pregate {
namespace {

using Addresses = absl::StatusOr<std::vector<std::string>>;

constexpr absl::Duration kSlice = absl::Milliseconds(50);

// Blocks.
Addresses Resolve(const std::string& host, int flags) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0) return absl::UnavailableError(absl::StrCat(host, ": ", gai_strerror(error)));
  std::vector<std::string> addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::array<char, NI_MAXHOST> text = {};
    if (getnameinfo(one->ai_addr, one->ai_addrlen, text.data(), text.size(), nullptr, 0,
                    NI_NUMERICHOST) == 0) {
      addresses.emplace_back(text.data());
    }
  }
  freeaddrinfo(found);
  if (addresses.empty()) return absl::UnavailableError(absl::StrCat(host, ": has no address"));
  return addresses;
}

}  // namespace

struct HostLookup::Pending {
  absl::Mutex mutex;
  bool done ABSL_GUARDED_BY(mutex) = false;
  Addresses result ABSL_GUARDED_BY(mutex);

  bool IsDone() {
    absl::MutexLock lock(&mutex);
    return done;
  }
};

Addresses HostLookup::Find(const std::string& host, const MovingDeadline& deadline) {
  if (Addresses numeric = Resolve(host, AI_NUMERICHOST); numeric.ok()) return numeric;
  if (pending_ != nullptr && pending_->IsDone()) pending_ = nullptr;  // it was given up: stale
  if (pending_ == nullptr) {
    auto pending = std::make_shared<Pending>();
    try {
      std::thread([pending, host] {
        Addresses result = Resolve(host, 0);
        absl::MutexLock lock(&pending->mutex);
        pending->result = std::move(result);
        pending->done = true;
      }).detach();
    } catch (const std::system_error& error) {
      return absl::UnavailableError(
          absl::StrCat(host, ": no thread to look it up: ", error.what()));
    }
    pending_ = std::move(pending);
  }
  while (true) {
    absl::MutexLock lock(&pending_->mutex);
    if (pending_->done || absl::Now() >= deadline()) break;
    pending_->mutex.AwaitWithTimeout(absl::Condition(&pending_->done), kSlice);
  }
  std::shared_ptr<Pending> pending = pending_;
  absl::MutexLock lock(&pending->mutex);
  if (!pending->done) {
    return absl::DeadlineExceededError(absl::StrCat(host, ": its lookup takes too long"));
  }
  pending_ = nullptr;
  return std::move(pending->result);
}

}  // namespace pregate
