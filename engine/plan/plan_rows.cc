#include "engine/plan/plan_rows.h"

#include <algorithm>
#include <cassert>

namespace pregate {
namespace {

constexpr int32_t kNoLogits = -2;
constexpr int32_t kSample = -1;

// What the logits of a position are for: those of the newest token, and of the drafts behind it,
// are sampled, and those of a prompt's position may be asked for to score the token that follows.
int32_t LogitTarget(const Sequence& sequence, int32_t position) {
  if (position >= sequence.size() - 1) return kSample;
  const bool score = sequence.request.prompt_logits && position + 1 < sequence.prompt_size();
  return score ? sequence.tokens[position + 1] : kNoLogits;
}

// The rows of positions [first, context) of a sequence.
void AppendTokens(const Sequence& sequence, int32_t first, int32_t context, int32_t block_tokens,
                  BatchPlan* plan) {
  assert(first < context && context <= sequence.known());
  for (int32_t position = first; position < context; ++position) {
    const int32_t block = sequence.blocks[position / block_tokens];
    plan->token_ids.push_back(sequence.token(position));
    plan->positions.push_back(position);
    plan->kv_slots.push_back(block * block_tokens + position % block_tokens);
  }
  const int32_t blocks = (context + block_tokens - 1) / block_tokens;
  plan->sequence_slots.push_back(sequence.slot);
  plan->row_start.push_back(plan->rows());
  plan->context_len.push_back(context);
  plan->block_ids.insert(plan->block_ids.end(), sequence.blocks.begin(),
                         sequence.blocks.begin() + blocks);
  plan->block_start.push_back(static_cast<int32_t>(plan->block_ids.size()));
}

}  // namespace

BatchPlan EmptyPlan() {
  BatchPlan plan;
  plan.row_start.push_back(0);
  plan.block_start.push_back(0);
  return plan;
}

int32_t RowsWithinLogits(const Sequence& sequence, int32_t rows, int32_t logits) {
  if (sequence.request.prompt_logits || sequence.decodes()) return std::min(rows, logits);
  return rows == sequence.missing() && logits < 1 ? rows - 1 : rows;
}

int32_t RowsWithinExperts(const Sequence& sequence, int32_t rows, ExpertMask experts) {
  const int32_t end = sequence.computed + std::min(rows, sequence.routed - sequence.computed);
  int32_t position = sequence.computed;
  while (position < end && (experts >> sequence.experts[position] & 1) != 0) ++position;
  return position - sequence.computed;
}

void AppendRows(const Sequence& sequence, int32_t rows, int32_t block_tokens, BatchPlan* plan) {
  const int32_t context = sequence.computed + rows;
  for (int32_t position = sequence.computed; position < context; ++position) {
    if (const int32_t target = LogitTarget(sequence, position); target != kNoLogits) {
      plan->logit_rows.push_back(plan->rows() + position - sequence.computed);
      plan->logit_slots.push_back(sequence.slot);
      plan->logit_targets.push_back(target);
    }
  }
  AppendTokens(sequence, sequence.computed, context, block_tokens, plan);
  if (sequence.experts.empty()) return;  // no router
  assert(context <= sequence.routed);
  plan->expert_ids.insert(plan->expert_ids.end(), sequence.experts.begin() + sequence.computed,
                          sequence.experts.begin() + context);
}

void AppendUnrouted(const Sequence& sequence, int32_t rows, int32_t block_tokens, BatchPlan* plan) {
  AppendTokens(sequence, sequence.routed, sequence.routed + rows, block_tokens, plan);
}

}  // namespace pregate
