// Arrival: when a request came.
#ifndef PREGATE_SERVER_TRACING_ARRIVAL_H_
#define PREGATE_SERVER_TRACING_ARRIVAL_H_

#include <chrono>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate {

// By two clocks: what others compare times with, and one that is never set.
struct Arrival {
  absl::Time time = absl::Now();
  std::chrono::steady_clock::time_point steady = std::chrono::steady_clock::now();

  // The time at a later moment.
  absl::Time At(std::chrono::steady_clock::time_point moment) const {
    return time + absl::FromChrono(moment - steady);
  }
};

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_ARRIVAL_H_
