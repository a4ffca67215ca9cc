#include "server/commands/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace pregate {
namespace {

volatile std::sig_atomic_t interrupted = 0;
// A byte for each interrupt: a wait for input must not miss one that comes just before it.
int interrupts[2] = {-1, -1};

void OnInterrupt(int signal) {
  if (interrupted != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  interrupted = 1;
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(interrupts[1], "", 1);
  errno = error;
}

}  // namespace

void CatchInterrupts() {
  if (pipe2(interrupts, O_NONBLOCK | O_CLOEXEC) != 0) interrupts[0] = interrupts[1] = -1;
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  sigaction(SIGINT, &action, nullptr);
}

int InterruptFd() { return interrupts[0]; }

bool Interrupted() { return interrupted != 0; }

bool TakeInterrupt() {
  const bool taken = interrupted != 0;
  char bytes[16];
  while (read(interrupts[0], bytes, sizeof(bytes)) > 0) {
  }
  interrupted = 0;
  return taken;
}

}  // namespace pregate
