// Requests, plans and events as short texts, for traces that people read.
#ifndef PREGATE_TESTS_PLAN_PLAN_TEXT_H_
#define PREGATE_TESTS_PLAN_PLAN_TEXT_H_

#include <string>
#include <vector>

#include "engine/plan/batch_plan.h"
#include "engine/plan/request.h"
#include "engine/plan/scheduler.h"

namespace pregate {

// "7: 5 9 9 max 4 stop 2 priority 1"
std::string ToString(const Request& request);

// Sequences of a plan, in its order: "+1:0-3* 2:7* 3:4-9?5" means
//   +1     request 1, just admitted ("^1": resumed after a preemption); "+1(4)": 4 tokens cached
//   :0-3   its positions 0 to 3 are computed
//   *      and the last of them is sampled
//   ?5     5 of them score the prompt
// `slot_owner[slot]` is the request that holds the slot.
std::string ToString(const BatchPlan& plan, const std::vector<Admission>& admissions,
                     const std::vector<SequenceId>& slot_owner);

// Whether a logit row is of a drafted token: it counts only if the row before samples that token.
bool IsDrafted(const BatchPlan& plan, int32_t logit);

// "1=50 2=7.stop 3.cancelled": tokens and ends, in order.
std::string ToString(const std::vector<SequenceEvent>& events);

}  // namespace pregate

#endif  // PREGATE_TESTS_PLAN_PLAN_TEXT_H_
