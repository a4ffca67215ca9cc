// Gather: how a thread that writes to clients takes what the engine woke it for.
#ifndef PREGATE_SERVER_GENERATION_GATHER_H_
#define PREGATE_SERVER_GENERATION_GATHER_H_

#include <iterator>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate {

// What comes to `list`, in order, until a pause brings few more; leaves it empty. The engine wakes
// all streams of a step one after the other, far more than a few in a pause: at the first of them
// the thread would take the processor from the engine's, for as long as it has to write. The lock
// is held for a swap only: the engine's thread, if it met it, would sleep in the midst of a step.
template <typename T>
std::vector<T> Gather(absl::Mutex* mutex, std::vector<T>* list) {
  constexpr absl::Duration kPause = absl::Microseconds(100);
  constexpr size_t kFew = 16;
  constexpr int kMaxPauses = 20;
  std::vector<T> all;
  bool few = false;
  for (int pauses = 0; !few && pauses < kMaxPauses; ++pauses) {
    absl::SleepFor(kPause);
    std::vector<T> more;
    {
      absl::MutexLock lock(mutex);
      more.swap(*list);
    }
    few = more.size() <= kFew;
    std::move(more.begin(), more.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_GATHER_H_
