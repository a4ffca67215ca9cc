// What the scheduler keeps, and the steps of its verbs. Private to scheduler.cc (how it decides),
// scheduler_router.cc (what it knows ahead), scheduler_drafts.cc (what it guesses) and
// scheduler_state.cc (what can be seen of it).
#ifndef PREGATE_ENGINE_PLAN_SCHEDULER_IMPL_H_
#define PREGATE_ENGINE_PLAN_SCHEDULER_IMPL_H_

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/plan/draft_gate.h"
#include "engine/plan/expert_planner.h"
#include "engine/plan/kv_blocks.h"
#include "engine/plan/scheduler.h"
#include "engine/plan/sequence.h"

namespace pregate {

class Scheduler::Impl {
 public:
  explicit Impl(const SchedulerConfig& config);

  AddResult Add(Request request);
  bool Cancel(SequenceId id, FinishReason reason);
  void Admit();
  BatchPlan Unrouted();
  void Routed(const BatchPlan& plan, const std::vector<int32_t>& expert_ids);
  BatchPlan Plan();
  void Commit(const BatchPlan& plan, const std::vector<int32_t>& token_ids, const StepTimes& times);
  void Fail(const BatchPlan& plan);
  void UnitLoaded(int32_t unit, double seconds) { experts_.Loaded(unit, seconds); }
  void UnitFailed(int32_t unit) { experts_.LoadFailed(unit); }
  SchedulerStats stats() const;
  std::string CheckInvariants() const;

  const SchedulerConfig& config() const { return config_; }
  const std::vector<Admission>& admissions() const { return admissions_; }
  std::vector<SequenceEvent> TakeEvents() { return std::exchange(events_, {}); }

 private:
  // Plan's halves: without a router, who runs is served and then who waits is admitted; with one,
  // who waits is admitted (and everything routed), and then the policy of experts serves.
  void ServeRunning();
  void AdmitWaiting();
  void ServeByExpert();
  // Their steps.
  void OpenPlan();
  int32_t PrefillBudget() const;
  int32_t Lookahead() const;
  bool MakeRoom(size_t index);
  bool PreemptOneAfter(size_t index);
  bool TakeUp(Sequence* sequence, const KvBlocks::Prefix& prefix);
  ExpertCandidate CandidateOf(const Sequence& sequence) const;
  bool Overdue(const Sequence& sequence) const;
  void AddToPlan(Sequence* sequence, int32_t followers, ExpertMask experts);
  bool WaitsForPrefix(Sequence* sequence, const KvBlocks::Prefix& prefix,
                      const std::vector<uint64_t>& in_progress) const;

  // Guesses ahead of answers (scheduler_drafts.cc).
  void DraftAnswers();
  void Draft(Sequence* sequence, int32_t most);
  ExpertMask KeepWarmDrafts(Sequence* sequence, ExpertMask experts);
  void CutDraft(Sequence* sequence, int32_t count);
  void Forget(Sequence* sequence, int32_t position);
  void DropDrafts();
  void SettleDrafts(Sequence* sequence, int32_t rows, int32_t sampled);

  // Commit's steps.
  int32_t AppendSampled(Sequence* sequence, const BatchPlan& plan,
                        const std::vector<int32_t>& token_ids, int32_t* logit,
                        SequenceEvent* newest);
  FinishReason Append(Sequence* sequence, int32_t token_id);

  // How a sequence leaves.
  void Preempt(Sequence* sequence);
  void End(Sequence* sequence, SequenceEvent event);
  void ReleaseSlot(Sequence* sequence);

  void SortByPolicy(std::vector<Sequence*>* sequences) const;
  int64_t PlansWaited(const Sequence& sequence) const;
  int32_t Room(const Sequence& sequence) const {  // positions
    return static_cast<int32_t>(sequence.blocks.size()) * config_.block_tokens;
  }
  bool routes() const { return config_.experts.num_experts > 1; }
  int32_t LongestContext(const Request& request) const;
  bool Protected(const Sequence& sequence) const;

  const SchedulerConfig config_;
  KvBlocks blocks_;
  ExpertPlanner experts_;
  std::unordered_map<SequenceId, std::unique_ptr<Sequence>> sequences_;  // looked up, not iterated
  std::vector<Sequence*> waiting_;
  std::vector<Sequence*> running_;
  std::vector<Sequence*> slots_;     // [max_num_seqs] owner or null
  std::vector<int32_t> free_slots_;  // taken from the back
  int64_t arrivals_ = 0;
  int64_t waiting_tokens_ = 0;  // prompt tokens of waiting_
  int64_t plan_number_ = 0;

  // The plan being made or, between Plan and Commit, executed; and what is being routed before.
  BatchPlan plan_;
  BatchPlan unrouted_;
  bool opened_ = false;  // by Admit
  bool executing_ = false;
  bool preempted_ = false;    // somebody, by this plan
  int32_t prefill_left_ = 0;  // rows that prompts may still have in this plan
  std::vector<Admission> admissions_;

  std::vector<SequenceEvent> events_;
  DraftGate draft_gate_;
  int64_t drafts_ = 0;
  int64_t draft_tokens_ = 0;
  int64_t accepted_tokens_ = 0;
  int64_t preemptions_ = 0;
  int64_t prefix_queries_ = 0;
  int64_t prefix_hits_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_SCHEDULER_IMPL_H_
