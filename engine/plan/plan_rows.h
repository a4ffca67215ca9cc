// From a sequence and a number of rows to the entries of a BatchPlan.
#ifndef PREGATE_ENGINE_PLAN_PLAN_ROWS_H_
#define PREGATE_ENGINE_PLAN_PLAN_ROWS_H_

#include <cstdint>

#include "engine/plan/batch_plan.h"
#include "engine/plan/expert_policy.h"
#include "engine/plan/sequence.h"

namespace pregate {

// An empty plan, whose prefix sums have their first entry.
BatchPlan EmptyPlan();

// The most rows, at most `rows`, of a sequence that need no more than `logits` logit rows.
int32_t RowsWithinLogits(const Sequence& sequence, int32_t rows, int32_t logits);

// The most rows, at most `rows`, after `computed` whose experts are known and in `experts`.
int32_t RowsWithinExperts(const Sequence& sequence, int32_t rows, ExpertMask experts);

// Appends the next `rows` (at least 1) tokens after `computed`, with their experts where they have
// any. The sequence must own the blocks.
void AppendRows(const Sequence& sequence, int32_t rows, int32_t block_tokens, BatchPlan* plan);

// Appends the next `rows` tokens after `routed`, for the router: nothing is sampled or scored.
void AppendUnrouted(const Sequence& sequence, int32_t rows, int32_t block_tokens, BatchPlan* plan);

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_PLAN_ROWS_H_
