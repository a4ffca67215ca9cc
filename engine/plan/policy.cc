#include "engine/plan/policy.h"

#include <tuple>

namespace pregate {

bool GoesBefore(SchedulingPolicy policy, int32_t wait_steps_max, const Candidate& a,
                const Candidate& b) {
  switch (policy) {
    case SchedulingPolicy::kFcfs:
      return a.arrival < b.arrival;
    case SchedulingPolicy::kPriority: {
      const auto rank = [wait_steps_max](const Candidate& c) {
        const bool aged = c.plans_waited >= wait_steps_max;
        return std::make_tuple(!aged, aged ? 0 : c.priority, c.arrival);
      };
      return rank(a) < rank(b);
    }
  }
  return false;
}

}  // namespace pregate
