#include "server/commands/interrupt.h"

#include <csignal>

namespace pregate {
namespace {

volatile std::sig_atomic_t interrupted = 0;

void OnInterrupt(int signal) {
  if (interrupted != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  interrupted = 1;
}

}  // namespace

void CatchInterrupts() {
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  sigaction(SIGINT, &action, nullptr);
}

bool Interrupted() { return interrupted != 0; }

bool TakeInterrupt() {
  const bool taken = interrupted != 0;
  interrupted = 0;
  return taken;
}

}  // namespace pregate
