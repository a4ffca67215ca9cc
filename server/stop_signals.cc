#include "server/stop_signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

namespace pregate {
namespace {

sigset_t Watched() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

}  // namespace

StopSignals::StopSignals() : state_(std::make_shared<State>()) {
  const sigset_t signals = Watched();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // Writing to a connection that the peer has closed is an error to handle, not a reason to die.
  signal(SIGPIPE, SIG_IGN);
  std::thread([state = state_] { Watch(state); }).detach();
}

void StopSignals::Watch(const std::shared_ptr<State>& state) {
  const sigset_t signals = Watched();
  for (;;) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    // What a shell reports of a process that the signal killed.
    if (!state->armed || state->asked.HasBeenNotified()) _exit(128 + signal);
    state->asked.Notify();
  }
}

}  // namespace pregate
