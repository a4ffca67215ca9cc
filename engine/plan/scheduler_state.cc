// What can be seen of the scheduler, and its interface.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/plan/scheduler_impl.h"

namespace pregate {

// --- What can be seen ---

SchedulerStats Scheduler::Impl::stats() const {
  SchedulerStats stats;
  stats.waiting = static_cast<int32_t>(waiting_.size());
  stats.waiting_tokens = waiting_tokens_;
  stats.running = static_cast<int32_t>(running_.size());
  stats.blocks_total = config_.num_blocks;
  stats.blocks_used = config_.num_blocks - blocks_.pool().free();
  stats.blocks_cached = blocks_.pool().kept();
  stats.preemptions = preemptions_;
  stats.prefix_queries = prefix_queries_;
  stats.prefix_hits = prefix_hits_;
  stats.drafts = drafts_;
  stats.draft_tokens = draft_tokens_;
  stats.accepted_tokens = accepted_tokens_;
  if (routes()) stats.experts = experts_.stats();
  return stats;
}

std::string Scheduler::Impl::CheckInvariants() const {
  if (waiting_.size() + running_.size() != sequences_.size()) {
    return "scheduler: a sequence neither waits nor runs, or does both";
  }
  int64_t waiting_tokens = 0;
  for (const Sequence* sequence : waiting_) {
    waiting_tokens += sequence->prompt_size();
    if (sequence->slot >= 0 || sequence->routed != 0 || !sequence->blocks.empty() ||
        sequence->planned_rows != 0) {
      return "scheduler: a waiting sequence holds something";
    }
  }
  if (waiting_tokens != waiting_tokens_) return "scheduler: waiting tokens are miscounted";
  if (free_slots_.size() + running_.size() != slots_.size()) return "scheduler: a slot is lost";
  for (const Sequence* sequence : running_) {
    if (slots_[sequence->slot] != sequence) return "scheduler: a slot has another owner";
    if (sequence->missing() < 1) return "scheduler: a running sequence has nothing to compute";
    if (sequence->computed + sequence->planned_rows > Room(*sequence)) {
      return "scheduler: a sequence computes beyond its blocks";
    }
    if (routes() && (sequence->computed + sequence->planned_rows > sequence->routed ||
                     sequence->routed > std::min(sequence->known(), Room(*sequence)))) {
      return "scheduler: a sequence is routed beyond its blocks, or computed beyond what is routed";
    }
    if (sequence->known() >= config_.max_model_len) return "scheduler: a context is overrun";
    if (sequence->drafted() > config_.max_draft_tokens ||
        (!opened_ && sequence->drafted() > 0 && sequence->planned_rows == 0)) {
      return "scheduler: a draft outlives its plan, or is too long";
    }
    if (!opened_ && !executing_ && !Protected(*sequence) &&
        static_cast<int32_t>(sequence->blocks.size()) > blocks_.BlocksFor(sequence->size())) {
      return "scheduler: a sequence keeps blocks that its tokens do not need";
    }
    if (sequence->preemptions > config_.max_preemptions) return "scheduler: preempted too often";
  }
  if (plan_.rows() > config_.max_num_batched_tokens || plan_.logits() > config_.max_logits) {
    return "scheduler: a plan is over its budget";
  }
  if (std::string broken = experts_.CheckInvariants(); !broken.empty()) return broken;
  return blocks_.CheckInvariants({running_.begin(), running_.end()});
}

// --- The interface ---

Scheduler::Scheduler(const SchedulerConfig& config) : impl_(std::make_unique<Impl>(config)) {}
Scheduler::~Scheduler() = default;

AddResult Scheduler::Add(Request request) { return impl_->Add(std::move(request)); }
bool Scheduler::Cancel(SequenceId id, FinishReason reason) { return impl_->Cancel(id, reason); }
BatchPlan Scheduler::Plan() { return impl_->Plan(); }
const std::vector<Admission>& Scheduler::admissions() const { return impl_->admissions(); }
void Scheduler::Admit() { impl_->Admit(); }
BatchPlan Scheduler::Unrouted() { return impl_->Unrouted(); }
void Scheduler::Routed(const BatchPlan& plan, const std::vector<int32_t>& expert_ids) {
  impl_->Routed(plan, expert_ids);
}
void Scheduler::Commit(const BatchPlan& plan, const std::vector<int32_t>& token_ids,
                       const StepTimes& times) {
  impl_->Commit(plan, token_ids, times);
}
void Scheduler::UnitLoaded(int32_t unit, double seconds) { impl_->UnitLoaded(unit, seconds); }
void Scheduler::UnitFailed(int32_t unit) { impl_->UnitFailed(unit); }
void Scheduler::Fail(const BatchPlan& plan) { impl_->Fail(plan); }
std::vector<SequenceEvent> Scheduler::TakeEvents() { return impl_->TakeEvents(); }
SchedulerStats Scheduler::stats() const { return impl_->stats(); }
const SchedulerConfig& Scheduler::config() const { return impl_->config(); }
std::string Scheduler::CheckInvariants() const { return impl_->CheckInvariants(); }

}  // namespace pregate
