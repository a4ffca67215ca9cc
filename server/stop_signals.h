// StopSignals: SIGTERM and SIGINT, as something that can be waited for.
#ifndef PREGATE_SERVER_STOP_SIGNALS_H_
#define PREGATE_SERVER_STOP_SIGNALS_H_

#include <atomic>
#include <memory>

#include "absl/synchronization/notification.h"

namespace pregate {

// The first signal asks for an orderly end, which Wait() tells; a second one, or one that comes
// before Arm(), ends the process at once.
class StopSignals {
 public:
  // Blocks the two signals in this thread and in all that it starts from now on: construct it
  // before any other thread exists, and once in a process.
  StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // There is now something to end in order.
  void Arm() { state_->armed = true; }
  void Wait() { state_->asked.WaitForNotification(); }

 private:
  struct State {
    std::atomic<bool> armed = false;
    absl::Notification asked;
  };
  [[noreturn]] static void Watch(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;  // shared with the thread that watches, which never ends
};

}  // namespace pregate

#endif  // PREGATE_SERVER_STOP_SIGNALS_H_
