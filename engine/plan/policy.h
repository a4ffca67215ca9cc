// Who goes first: pure functions over plain candidates. A new policy is a new case here and a
// figure of the simulator.
#ifndef PREGATE_ENGINE_PLAN_POLICY_H_
#define PREGATE_ENGINE_PLAN_POLICY_H_

#include <cstdint>

#include "engine/plan/scheduler.h"

namespace pregate {

// What a policy may look at.
struct Candidate {
  int32_t priority = 0;
  int64_t arrival = 0;       // unique
  int64_t plans_waited = 0;  // plans that passed it over so far
};

// A strict order over candidates, for admission (first to last) and preemption (last to first).
//   kFcfs: by arrival.
//   kPriority: those passed over for `wait_steps_max` plans, by arrival; then by priority, then by
//   arrival. Waiting is counted in plans, so the order needs no clock.
bool GoesBefore(SchedulingPolicy policy, int32_t wait_steps_max, const Candidate& a,
                const Candidate& b);

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_POLICY_H_
