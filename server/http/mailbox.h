// Mailbox: how other threads reach the thread of a connection. Private to server/http.
#ifndef PREGATE_SERVER_HTTP_MAILBOX_H_
#define PREGATE_SERVER_HTTP_MAILBOX_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "server/generation/gather.h"

namespace pregate {

// Open as long as that thread runs. Each method says false once it has ended; the job is not run.
class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  explicit Mailbox(boost::asio::io_context* context) : context_(context) {}

  template <typename Job>
  bool Post(Job job) {
    absl::MutexLock lock(&mutex_);
    if (context_ == nullptr) return false;
    boost::asio::post(*context_, std::move(job));
    return true;
  }

  // At once if this is that thread: for jobs that call nothing of whoever posts them.
  template <typename Job>
  bool Dispatch(Job job) {
    {
      absl::MutexLock lock(&mutex_);
      if (context_ == nullptr) return false;
      if (!context_->get_executor().running_in_this_thread()) {
        boost::asio::post(*context_, std::move(job));
        return true;
      }
    }
    job();
    return true;
  }

  // All that come until the thread gets to them cost it one wake-up.
  bool PostSoon(std::function<void()> job) {
    absl::MutexLock lock(&mutex_);
    if (context_ == nullptr) return false;
    soon_.push_back(std::move(job));
    if (!running_soon_) HaveSoonRun();
    return true;
  }

  void Close() {
    absl::MutexLock lock(&mutex_);
    context_ = nullptr;
  }

 private:
  void HaveSoonRun() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    running_soon_ = true;
    boost::asio::post(*context_, [self = shared_from_this()] { self->RunSoon(); });
  }
  void RunSoon() {
    for (const std::function<void()>& job : Gather(&mutex_, &soon_)) job();
    absl::MutexLock lock(&mutex_);
    running_soon_ = false;
    if (!soon_.empty() && context_ != nullptr) HaveSoonRun();
  }

  absl::Mutex mutex_;
  boost::asio::io_context* context_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::function<void()>> soon_ ABSL_GUARDED_BY(mutex_);
  bool running_soon_ ABSL_GUARDED_BY(mutex_) = false;  // or posted
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_MAILBOX_H_
