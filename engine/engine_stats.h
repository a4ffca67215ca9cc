// From the scheduler's counts to what the engine shows of itself.
#ifndef PREGATE_ENGINE_ENGINE_STATS_H_
#define PREGATE_ENGINE_ENGINE_STATS_H_

#include <cstdint>
#include <vector>

#include "engine/engine.h"
#include "engine/plan/batch_plan.h"
#include "engine/plan/scheduler.h"

namespace pregate {

// Sets what of `stats` comes from the scheduler.
void FillStats(const SchedulerStats& now, const SchedulerConfig& config, EngineStats* stats);

// Rows of the plan by expert, [num_experts].
std::vector<int32_t> CountByExpert(const BatchPlan& plan, int32_t num_experts);

}  // namespace pregate

#endif  // PREGATE_ENGINE_ENGINE_STATS_H_
