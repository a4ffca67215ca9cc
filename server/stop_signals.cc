#include "server/stop_signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <thread>
#include <utility>

namespace pregate {
namespace {

sigset_t Watched(bool take_hangup) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  if (take_hangup) sigaddset(&signals, SIGHUP);
  return signals;
}

}  // namespace

StopSignals::StopSignals(bool take_hangup) : state_(std::make_shared<State>()) {
  const sigset_t signals = Watched(take_hangup);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // Writing to a connection that the peer has closed is an error to handle, not a reason to die.
  signal(SIGPIPE, SIG_IGN);
  std::thread([state = state_, take_hangup] { Watch(state, take_hangup); }).detach();
}

void StopSignals::OnHangup(std::function<void()> call) {
  absl::MutexLock lock(&state_->mutex);
  state_->on_hangup = std::move(call);
}

void StopSignals::Watch(const std::shared_ptr<State>& state, bool take_hangup) {
  const sigset_t signals = Watched(take_hangup);
  for (;;) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    if (signal == SIGHUP) {
      absl::MutexLock lock(&state->mutex);
      if (state->on_hangup) state->on_hangup();
      continue;
    }
    // What a shell reports of a process that the signal killed.
    if (!state->armed || state->asked.HasBeenNotified()) _exit(128 + signal);
    state->asked.Notify();
  }
}

}  // namespace pregate
