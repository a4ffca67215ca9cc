// StepWatch: tells an engine that is stuck from one that is busy or at rest.
#ifndef PREGATE_SERVER_GENERATION_STEP_WATCH_H_
#define PREGATE_SERVER_GENERATION_STEP_WATCH_H_

#include <cstdint>

#include "absl/time/time.h"
#include "engine/engine.h"

namespace pregate {

// Look at the engine every second or so, always from the same thread. However long its queue is, an
// engine that ends steps is not stuck; one that has something to run and ends none is.
class StepWatch {
 public:
  explicit StepWatch(absl::Duration patience) : patience_(patience) {}

  bool Stuck(const EngineStats& stats, absl::Time now) {
    if (stats.running == 0 || stats.steps != steps_) {
      steps_ = stats.steps;
      progress_ = now;
    }
    return now - progress_ > patience_;
  }

 private:
  const absl::Duration patience_;
  int64_t steps_ = -1;
  absl::Time progress_;  // when it was last seen at rest, or with a new step
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_STEP_WATCH_H_
