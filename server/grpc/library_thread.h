// What is asked of the threads that are gRPC's own. Private to server/grpc.
#ifndef PREGATE_SERVER_GRPC_LIBRARY_THREAD_H_
#define PREGATE_SERVER_GRPC_LIBRARY_THREAD_H_

#include <sched.h>

namespace pregate {

// Has the thread that calls this, one of the library's, wait for a processor that is free, or for
// its turn, when it wakes. The end of every write wakes one: taking the processor at once, from the
// thread that writes to the next stream of a step, it made each write cost half as much again, and
// a stream's place among those of its step a matter of chance.
inline void WaitForTurnWhenWoken() {
  thread_local const bool asked = [] {
    const sched_param parameters = {};
    return sched_setscheduler(0, SCHED_BATCH, &parameters) == 0;
  }();
  static_cast<void>(asked);
}

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_LIBRARY_THREAD_H_
