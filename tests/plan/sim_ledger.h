// Ledger: what must be true of a run, kept from the outside. It knows each request, the answer it
// has alone, and how far it has come, and compares every plan, event and count of a scheduler with
// that. The first difference stays in broken().
//
// The invariants' numbers are used in the messages:
//   I1  a request ends exactly once              I8  nobody waits beyond a bound
//   I2  nothing comes after the end              I9  preemptions are bounded
//   I3  blocks have one writer, used fit         I13 counts equal what happened
//   I4  at rest no block is owned                I15 with work there is a plan
//   I5  tokens are those of the answer alone, in order, without gaps
//   I6  a plan keeps its budgets
//   D1  guesses follow the newest token of an answer, are few, and could be part of it
//   D2  what is guessed is what the router was shown
//   D3  where experts do not fit, no guess makes a step need one more
//   D4  between steps nobody has a block for what was guessed
//   E1  a row's expert is that of its prefix, found in what the router left in its blocks
//   E2  units fit their memory, what a plan needs is there or on its way, and nothing else moves
//   E3  nobody that was taken up is passed over longer than the bound
//   E4  what was loaded for somebody who waits is used, unless somebody left
//   E5  what keeps a place in the host's memory comes by that plan, and all of them fit
//   KV  every position before a row is in the blocks that the row is given
#ifndef PREGATE_TESTS_PLAN_SIM_LEDGER_H_
#define PREGATE_TESTS_PLAN_SIM_LEDGER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/plan/batch_plan.h"
#include "engine/plan/scheduler.h"
#include "tests/plan/fake_model.h"

namespace pregate {

class Ledger {
 public:
  // Plans that a sequence may be overtaken in, for a prefix that somebody else is computing.
  static constexpr int32_t kMaxOvertaken = 64;

  Ledger(const SchedulerConfig& config, int32_t vocabulary);

  // A request was given to Add, which said `result`; `before` are the counts before it.
  void Added(const Request& request, AddResult result, const SchedulerStats& before);

  // Cancel was called and returned `accepted`.
  void Cancelled(SequenceId id, FinishReason reason, bool accepted);

  // A plan was opened, and these were taken up.
  void Opened(const std::vector<Admission>& admissions);

  // With a router: rows are to be routed, before they are; then all of them have been.
  void Unrouted(const BatchPlan& plan, const FakeModel& model, const SchedulerStats& stats);
  void AllRouted(const SchedulerStats& stats);

  // A plan was made, and the model's memory is as it was before.
  void Planned(const BatchPlan& plan, const std::vector<Admission>& admissions,
               const FakeModel& model);

  // A load has ended or failed.
  void UnitLoaded(int32_t unit);
  void UnitFailed(int32_t unit);

  // The events handed out after the plan ran, or did not.
  void Committed(const std::vector<SequenceEvent>& events, const std::vector<int32_t>& token_ids);
  void Failed(const std::vector<SequenceEvent>& events);
  // The events handed out while no plan was finished.
  void Between(const std::vector<SequenceEvent>& events);

  void CheckCounts(const SchedulerStats& stats);
  void CheckAtRest(const SchedulerStats& stats);

  int32_t live() const { return static_cast<int32_t>(live_.size()); }
  std::vector<SequenceId> LiveIds() const;
  const Request& request(SequenceId id) const { return all_.at(id).request; }
  const std::vector<SequenceId>& slot_owner() const { return slot_owner_; }

  // Something is wrong that was found elsewhere; "" is nothing.
  void Break(const std::string& what) { Require(what.empty(), what.c_str()); }

  // "" or the first thing that was wrong.
  const std::string& broken() const { return broken_; }

  // The longest that a request was there, as a share of what I8 allows it.
  struct Slowest {
    int64_t plans = 0;
    int64_t allowed = 1;
  };
  const Slowest& slowest() const { return slowest_; }

 private:
  struct Account {
    Request request;
    SoloAnswer alone;
    std::vector<int32_t> tokens;     // prompt, then the answer alone
    std::vector<uint64_t> prefixes;  // of tokens
    std::vector<int32_t> experts;    // of tokens, with a router
    int32_t routed = 0;              // positions that the router has seen
    std::vector<int32_t> drafts;     // guesses that follow `size()`, in this plan
    int64_t passed_over = 0;         // plans since it was taken up or had a row
    int32_t delivered = 0;           // tokens handed out
    int32_t computed = 0;            // positions in memory
    int32_t scored = 0;              // positions of the prompt scored
    int32_t slot = -1;               // of its last admission, unless somebody else has it now
    int32_t resumed = 0;             // admissions after the first
    bool admitted = false;
    bool planned = false;                      // has rows in the plan being executed
    FinishReason asked = FinishReason::kNone;  // cancelled: why
    bool ended = false;

    int64_t arrival = 0;
    int64_t plans = 0;      // since it came
    int64_t waited = 0;     // of these, without a row
    int64_t allowed = -1;   // plans before it must have ended; -1: not bounded yet
    int32_t overtaken = 0;  // plans that admitted somebody behind it
    int32_t size() const { return static_cast<int32_t>(request.prompt.size()) + delivered; }
  };

  bool Require(bool holds, const char* what, SequenceId id = 0);

  bool TakeDrafts(const BatchPlan& plan, int32_t index, Account* account);
  void CheckDraftedExperts(const BatchPlan& plan);
  void DropDrafts(Account* account);
  void SettleDrafts(int32_t index, int32_t size_before);
  int64_t MostBlocks() const;
  RouterEntry Expected(const Account& account, int32_t position) const;
  static int32_t TokenAt(const Account& account, int32_t position);

  void Admit(const Admission& admission);
  void CheckBudgets(const BatchPlan& plan);
  void CheckSequence(const BatchPlan& plan, int32_t index, const FakeModel& model);
  void CheckLogits(const BatchPlan& plan, int32_t index, Account* account);
  void CheckPrefill(const BatchPlan& plan, const std::vector<Admission>& admissions);
  void CheckWriters(const BatchPlan& plan);
  void CheckOvertaking(const std::vector<Admission>& admissions);
  void CheckWaiting();
  void CheckEvent(const SequenceEvent& event, const std::vector<int32_t>* token_ids);
  void CheckToken(const SequenceEvent& event, const std::vector<int32_t>* token_ids,
                  Account* account);
  void CheckFinish(const SequenceEvent& event, bool step_failed, Account* account);
  void CloseStep(bool step_failed);

  bool GoesBefore(const Account& a, const Account& b) const;
  int64_t Work(const Account& account) const;
  void Bound(Account* account);

  bool routes() const { return config_.experts.num_experts > 1; }
  bool InOrder() const;
  int64_t LongestPassedOver() const;
  int32_t Lookahead() const;
  int32_t MostAhead(const SchedulerStats& stats) const;
  static bool Decodes(const Account& account);
  void CheckPassedOver();
  void CheckExperts(const BatchPlan& plan, const FakeModel& model);
  void CheckUnits(const BatchPlan& plan);
  void CheckHostUnits(const BatchPlan& plan);
  void CheckUnitCounts(const SchedulerStats& stats);
  int64_t UnitBytes() const;

  const SchedulerConfig config_;
  const int32_t vocabulary_;
  std::map<SequenceId, Account> all_;
  std::map<SequenceId, Account*> live_;
  std::vector<SequenceId> slot_owner_;  // [max_num_seqs] last admitted there
  std::vector<int64_t> block_written_;  // [num_blocks] number of the plan that writes it
  std::vector<int32_t> block_writer_;   // [num_blocks] index of its sequence in that plan
  BatchPlan plan_;                      // the last one
  bool in_step_ = false;
  bool step_failed_ = false;
  int64_t plans_ = 0;
  int64_t resumed_ = 0;
  int64_t ended_preempted_ = 0;
  int64_t prefix_queries_ = 0;
  int64_t prefix_hits_ = 0;
  int64_t drafts_ = 0, draft_tokens_ = 0, accepted_tokens_ = 0;
  enum class UnitState : uint8_t { kAbsent, kLoading, kResident };
  std::vector<UnitState> units_;  // [units]
  std::vector<bool> in_host_;     // [units]
  std::vector<bool> pinned_;      // [units]
  int64_t unit_hits_ = 0, unit_late_ = 0, unit_misses_ = 0, unit_loads_ = 0;
  bool somebody_left_ = false;  // before its answer had all its tokens, or for a while
  Slowest slowest_;
  std::string broken_;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_PLAN_SIM_LEDGER_H_
