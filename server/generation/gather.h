// kGather: what a thread that writes to clients waits before it does what the engine woke it for.
#ifndef PREGATE_SERVER_GENERATION_GATHER_H_
#define PREGATE_SERVER_GENERATION_GATHER_H_

#include "absl/time/time.h"

namespace pregate {

// The engine wakes all streams of a step one after the other. The thread lets it get them done: at
// the first it would take the processor from the engine's, for as long as it has to write.
inline constexpr absl::Duration kGather = absl::Microseconds(100);

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_GATHER_H_
