// What the scheduler knows ahead of its steps: whom it takes up early, and what the router is
// asked. A prompt can be routed as soon as it has blocks, an answer's token as soon as it is
// sampled.
#include <algorithm>
#include <cassert>
#include <vector>

#include "engine/plan/plan_rows.h"
#include "engine/plan/scheduler_impl.h"

namespace pregate {

// Tokens of prompts that the router may be ahead of their steps.
int32_t Scheduler::Impl::Lookahead() const {
  const int32_t rows = config_.max_num_batched_tokens;
  const int32_t asked =
      config_.router_lookahead_tokens < 0 ? rows : config_.router_lookahead_tokens;
  return std::max(asked, std::min(PrefillBudget(), rows));
}

// Prompts are taken up ahead of their turn until as many of their rows wait as may be known ahead.
void Scheduler::Impl::Admit() {
  if (!routes()) return;
  assert(!opened_);
  OpenPlan();
  SortByPolicy(&running_);
  for (size_t i = 0; i < running_.size(); ++i) MakeRoom(i);  // preemption shortens the list
  prefill_left_ = Lookahead();
  for (const Sequence* sequence : running_) {
    if (!sequence->decodes()) prefill_left_ -= sequence->missing();
  }
  AdmitWaiting();
  DraftAnswers();
}

// Answers first: a prompt can wait for its experts, somebody reads an answer.
BatchPlan Scheduler::Impl::Unrouted() {
  assert(!executing_ && unrouted_.empty());
  if (!routes()) return {};
  const int32_t lookahead = Lookahead();
  BatchPlan plan = EmptyPlan();
  for (const bool answers : {true, false}) {
    for (const Sequence* sequence : running_) {
      if (sequence->decodes() != answers) continue;
      const int32_t ahead = answers ? sequence->known() : sequence->computed + lookahead;
      const int32_t rows =
          std::min({sequence->unrouted(), Room(*sequence) - sequence->routed,
                    ahead - sequence->routed, config_.max_num_batched_tokens - plan.rows()});
      if (rows > 0) AppendUnrouted(*sequence, rows, config_.block_tokens, &plan);
    }
  }
  if (plan.empty()) return {};
  unrouted_ = plan;
  return plan;
}

void Scheduler::Impl::Routed(const BatchPlan& plan, const std::vector<int32_t>& expert_ids) {
  assert(!plan.empty() && plan == unrouted_);
  assert(static_cast<int32_t>(expert_ids.size()) == plan.rows());
  unrouted_ = {};
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    Sequence* sequence = slots_[plan.sequence_slots[s]];
    std::vector<int32_t>& experts = sequence->experts;
    for (int32_t row = plan.row_start[s]; row < plan.row_start[s + 1]; ++row) {
      const int32_t position = plan.positions[row], expert = expert_ids[row];
      assert(expert >= 0 && expert < config_.experts.num_experts);
      if (position < static_cast<int32_t>(experts.size()) && experts[position] >= 0) {
        assert(experts[position] == expert);  // a function of the prefix, whatever happened since
        continue;
      }
      experts.resize(std::max<size_t>(experts.size(), position + 1), -1);
      experts[position] = expert;
      const bool drafted = position >= sequence->size();
      if (position >= sequence->prompt_size() && !drafted && experts[position - 1] >= 0) {
        experts_.Sampled(experts[position - 1], expert);
      }
    }
    sequence->routed = plan.context_len[s];
  }
}

}  // namespace pregate
