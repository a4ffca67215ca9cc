// StopSignals: SIGTERM, SIGINT and SIGHUP, as something that can be waited for.
#ifndef PREGATE_SERVER_STOP_SIGNALS_H_
#define PREGATE_SERVER_STOP_SIGNALS_H_

#include <atomic>
#include <functional>
#include <memory>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace pregate {

// The first of SIGTERM and SIGINT asks for an orderly end, which Wait() tells; a second one, or one
// that comes before Arm(), ends the process at once.
class StopSignals {
 public:
  // Blocks the signals in this thread and in all that it starts from now on: construct it before
  // any other thread exists, and once in a process. SIGHUP is left alone unless `take_hangup`: a
  // server with nothing to reload ends with its terminal.
  explicit StopSignals(bool take_hangup);
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // There is now something to end in order.
  void Arm() { state_->armed = true; }
  void Wait() { state_->asked.WaitForNotification(); }
  // Calls `call` at each SIGHUP, on a thread of its own; null: no more. Until the first call SIGHUP
  // does nothing.
  void OnHangup(std::function<void()> call);

 private:
  struct State {
    std::atomic<bool> armed = false;
    absl::Notification asked;
    absl::Mutex mutex;
    std::function<void()> on_hangup ABSL_GUARDED_BY(mutex);
  };
  [[noreturn]] static void Watch(const std::shared_ptr<State>& state, bool take_hangup);

  std::shared_ptr<State> state_;  // shared with the thread that watches, which never ends
};

}  // namespace pregate

#endif  // PREGATE_SERVER_STOP_SIGNALS_H_
