// Scheduler: owns sequences and KV block ids, and decides each step. Values in, values out: it
// reads no clock, takes no lock, and calls nobody, so a simulator can drive it without a model.
#ifndef PREGATE_ENGINE_PLAN_SCHEDULER_H_
#define PREGATE_ENGINE_PLAN_SCHEDULER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/plan/batch_plan.h"
#include "engine/plan/expert_planner.h"
#include "engine/plan/prefix_cache.h"
#include "engine/plan/request.h"

namespace pregate {

enum class SchedulingPolicy : uint8_t { kFcfs, kPriority };

inline constexpr int32_t kMaxRouterLookahead = 1 << 20;

struct SchedulerConfig {
  int32_t max_num_seqs = 64;             // sequences running at once = sequence slots
  int32_t max_num_batched_tokens = 512;  // rows of one plan
  int32_t max_num_prefill_tokens = 32;   // of these, rows of prompts beside answers that go on
  int32_t max_num_step_seqs = 0;         // sequences with rows in one plan; 0: any (with a router)
  int32_t max_logits = 256;              // logit rows of one plan; at least max_num_seqs
  // With a router, tokens of prompts that it may name the experts of before their step: of each,
  // and prompts are taken up until so many wait. At least what the step itself may run; -1:
  // max_num_batched_tokens.
  int32_t router_lookahead_tokens = -1;
  int32_t max_draft_tokens = 0;        // guessed ahead of an answer in one plan, at most; 0: none
  int32_t max_num_queued_reqs = 1024;  // waiting sequences
  int64_t max_num_queued_tokens = 262144;  // prompt tokens of the waiting sequences
  int32_t max_model_len = 2048;            // positions of one sequence
  int32_t num_blocks = 0;                  // KV blocks in the pool
  int32_t block_tokens = 16;
  bool enable_prefix_caching = true;
  PrefixHash prefix_hash = HashPrefix;
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  int32_t max_preemptions = 3;    // a sequence preempted so often is not chosen again
  int32_t wait_steps_max = 1000;  // passed over for so many plans: goes first, whatever its class
  ExpertConfig experts;           // of a model with a pre-gating router
};

enum class AddResult : uint8_t {
  kOk,
  kQueueFull,  // max_num_queued_reqs or max_num_queued_tokens: try again later
  kNeverFits,  // more KV blocks than the pool has: never will
};

// What Commit or Cancel did to one sequence. A sequence ends in exactly one event.
struct SequenceEvent {
  SequenceId id = 0;
  int32_t slot = -1;         // sequence slot, -1 when it was never running
  int32_t logit_index = -1;  // row of the plan's logits that this event is about, or -1
  int32_t token_id = -1;     // newly sampled token, or -1
  FinishReason finish = FinishReason::kNone;

  friend bool operator==(const SequenceEvent&, const SequenceEvent&) = default;
};

// A sequence that Admit() or Plan() took up, or took up again after preemption: the sampler binds
// its slot.
struct Admission {
  SequenceId id = 0;
  int32_t slot = -1;
  int32_t cached_tokens = 0;  // positions found in the prefix cache
  bool resumed = false;       // after a preemption: tokens sampled so far stand
};

struct SchedulerStats {
  int32_t waiting = 0;
  int64_t waiting_tokens = 0;
  int32_t running = 0;
  int32_t blocks_total = 0;
  int32_t blocks_used = 0;    // held by sequences
  int32_t blocks_cached = 0;  // free, but their contents can still be hit
  int64_t preemptions = 0;
  int64_t prefix_queries = 0;  // tokens looked up in the prefix cache
  int64_t prefix_hits = 0;     // tokens found there
  // Answers that a plan guessed ahead of, tokens it guessed, and how many of those were right.
  int64_t drafts = 0;
  int64_t draft_tokens = 0;
  int64_t accepted_tokens = 0;
  ExpertStats experts;  // with a router
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);
  ~Scheduler();

  // Queues a request. Does nothing unless kOk.
  AddResult Add(Request request);

  // Ends a sequence before its time; false when there is no such sequence (any more). The event is
  // handed out by the next TakeEvents() and its blocks and slot are free at once; between Plan and
  // Commit, one that the plan carries is only marked, and ends with Commit.
  bool Cancel(SequenceId id, FinishReason reason);

  // --- With a pre-gating router, before each Plan. Without, these do nothing. ---

  // Takes up who waits, as far as slots and blocks go, and makes room for the newest tokens of
  // those who run: prompts can be routed before their turn. At most once before each Plan, which
  // does it itself if nobody has.
  void Admit();

  // Rows whose experts are not known yet and may be, answers before prompts, at most
  // max_num_batched_tokens: their tokens, positions and places in the cache; no logits. Empty when
  // all are known, else it must be followed by Routed before anything else.
  BatchPlan Unrouted();

  // The experts of those rows, one each. A row that was routed before must get the same again.
  void Routed(const BatchPlan& plan, const std::vector<int32_t>& expert_ids);

  // --- A step ---

  // Decides the next step. Empty when there is nothing to run (with a router: nothing whose experts
  // are known); else it must be followed by Commit or Fail of this plan before the next Plan.
  BatchPlan Plan();

  // Sequences that the last Plan(), or the Admit() before it, gave a slot.
  const std::vector<Admission>& admissions() const;

  // The plan ran; `token_ids` has one entry for each logit row, kNotSampled behind a drafted token
  // that was wrong. Moves the frontiers, shares full blocks, frees what finished. A sequence may
  // have several events, in order.
  void Commit(const BatchPlan& plan, const std::vector<int32_t>& token_ids,
              const StepTimes& times = {});

  // The plan did not run: its sequences end with kError, the others are untouched.
  void Fail(const BatchPlan& plan);

  // --- Loads that plans have asked for end: between steps, or before Commit or Fail. ---

  // A unit is in memory, after `seconds` of reading (0: not measured). Loads of what a plan needs
  // have ended when it commits or fails, and count as done unless they are told to have failed.
  void UnitLoaded(int32_t unit, double seconds);
  // A unit could not be read: it is absent. A plan that needs it must fail.
  void UnitFailed(int32_t unit);

  // Events since the last call, in order.
  std::vector<SequenceEvent> TakeEvents();

  SchedulerStats stats() const;
  const SchedulerConfig& config() const;

  // Checks every invariant that ties sequences, slots and blocks together; "" or what is broken.
  // For tests and the simulator: O(everything).
  std::string CheckInvariants() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_SCHEDULER_H_
