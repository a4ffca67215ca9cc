// From a sequence and a number of rows to the entries of a BatchPlan.
#ifndef PREGATE_ENGINE_PLAN_PLAN_ROWS_H_
#define PREGATE_ENGINE_PLAN_PLAN_ROWS_H_

#include <cstdint>

#include "engine/plan/batch_plan.h"
#include "engine/plan/sequence.h"

namespace pregate {

// An empty plan, whose prefix sums have their first entry.
BatchPlan EmptyPlan();

// The most rows, at most `rows`, of a sequence that need no more than `logits` logit rows.
int32_t RowsWithinLogits(const Sequence& sequence, int32_t rows, int32_t logits);

// Appends the next `rows` (at least 1) tokens after `computed`. The sequence must own the blocks.
void AppendRows(const Sequence& sequence, int32_t rows, int32_t block_tokens, BatchPlan* plan);

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_PLAN_ROWS_H_
