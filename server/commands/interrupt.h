// Ctrl-C as a wish that a command looks at, rather than the end of the process.
#ifndef PREGATE_SERVER_COMMANDS_INTERRUPT_H_
#define PREGATE_SERVER_COMMANDS_INTERRUPT_H_

namespace pregate {

inline constexpr int kInterruptedExitStatus = 130;  // as shells report a program ended by Ctrl-C

// From now on a Ctrl-C is remembered. One that comes while the last has not been taken ends the
// process.
void CatchInterrupts();

bool Interrupted();
// Whether there was one, which is forgotten.
bool TakeInterrupt();

// Can be read from, for poll(2), while there is one that has not been taken; -1 before
// CatchInterrupts.
int InterruptFd();

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_INTERRUPT_H_
