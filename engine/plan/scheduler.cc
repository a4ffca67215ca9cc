// The scheduler's main path is Plan, which serves who is running and then admits who waits, and
// Commit, which moves the frontiers by what the plan computed.
#include "engine/plan/scheduler.h"

#include <algorithm>
#include <cassert>
#include <unordered_map>
#include <utility>

#include "engine/plan/kv_blocks.h"
#include "engine/plan/plan_rows.h"
#include "engine/plan/policy.h"
#include "engine/plan/sequence.h"

namespace pregate {
namespace {

// Plans that a sequence is held back for a prefix that another is computing, at most. It bounds
// what a hash collision, or a leader that does not get on, can cost.
constexpr int32_t kMaxHeldBack = 64;

}  // namespace

class Scheduler::Impl {
 public:
  explicit Impl(const SchedulerConfig& config)
      : config_(config),
        blocks_(config.num_blocks, config.block_tokens, config.enable_prefix_caching,
                config.prefix_hash),
        slots_(config.max_num_seqs, nullptr) {
    assert(config.max_num_seqs > 0 && config.max_num_batched_tokens > 0);
    assert(config.max_num_prefill_tokens > 0);
    assert(config.max_logits >= config.max_num_seqs);
    for (int32_t slot = config.max_num_seqs - 1; slot >= 0; --slot) free_slots_.push_back(slot);
  }

  AddResult Add(Request request);
  bool Cancel(SequenceId id, FinishReason reason);
  BatchPlan Plan();
  void Commit(const BatchPlan& plan, const std::vector<int32_t>& token_ids);
  void Fail(const BatchPlan& plan);
  SchedulerStats stats() const;
  std::string CheckInvariants() const;

  const SchedulerConfig& config() const { return config_; }
  const std::vector<Admission>& admissions() const { return admissions_; }
  std::vector<SequenceEvent> TakeEvents() { return std::exchange(events_, {}); }

 private:
  // Plan's two halves.
  void ServeRunning();
  void AdmitWaiting();
  // Their steps.
  int32_t PrefillBudget() const;
  bool MakeRoom(size_t index);
  bool PreemptOneAfter(size_t index);
  bool TakeUp(Sequence* sequence, const KvBlocks::Prefix& prefix);
  void AddToPlan(Sequence* sequence, int32_t followers);
  bool WaitsForPrefix(Sequence* sequence, const KvBlocks::Prefix& prefix,
                      const std::vector<uint64_t>& in_progress) const;

  // Commit's step.
  void Append(Sequence* sequence, SequenceEvent event);

  // How a sequence leaves.
  void Preempt(Sequence* sequence);
  void End(Sequence* sequence, SequenceEvent event);
  void ReleaseSlot(Sequence* sequence);

  void SortByPolicy(std::vector<Sequence*>* sequences) const;
  int64_t PlansWaited(const Sequence& sequence) const;
  int32_t LongestContext(const Request& request) const;
  bool Protected(const Sequence& sequence) const {
    return sequence.preemptions >= config_.max_preemptions;
  }

  const SchedulerConfig config_;
  KvBlocks blocks_;
  std::unordered_map<SequenceId, std::unique_ptr<Sequence>> sequences_;  // looked up, not iterated
  std::vector<Sequence*> waiting_;
  std::vector<Sequence*> running_;
  std::vector<Sequence*> slots_;     // [max_num_seqs] owner or null
  std::vector<int32_t> free_slots_;  // taken from the back
  int64_t arrivals_ = 0;
  int64_t waiting_tokens_ = 0;  // prompt tokens of waiting_
  int64_t plan_number_ = 0;

  // The plan being made or, between Plan and Commit, executed.
  BatchPlan plan_;
  bool executing_ = false;
  bool preempted_ = false;    // somebody, by this plan
  int32_t prefill_left_ = 0;  // rows that prompts may still have in this plan
  std::vector<Admission> admissions_;

  std::vector<SequenceEvent> events_;
  int64_t preemptions_ = 0;
  int64_t prefix_queries_ = 0;
  int64_t prefix_hits_ = 0;
};

// --- Requests come and go ---

AddResult Scheduler::Impl::Add(Request request) {
  assert(!request.prompt.empty() && request.max_tokens >= 1);
  assert(!sequences_.contains(request.id));
  const int32_t prompt_size = static_cast<int32_t>(request.prompt.size());
  if (prompt_size >= config_.max_model_len ||
      blocks_.BlocksFor(LongestContext(request)) > config_.num_blocks) {
    return AddResult::kNeverFits;
  }
  if (static_cast<int32_t>(waiting_.size()) >= config_.max_num_queued_reqs ||
      waiting_tokens_ + prompt_size > config_.max_num_queued_tokens) {
    return AddResult::kQueueFull;
  }
  auto sequence = std::make_unique<Sequence>();
  sequence->tokens = request.prompt;
  sequence->request = std::move(request);
  sequence->arrival = arrivals_++;
  sequence->waiting_since = plan_number_;
  waiting_.push_back(sequence.get());
  waiting_tokens_ += prompt_size;
  sequences_.emplace(sequence->request.id, std::move(sequence));
  return AddResult::kOk;
}

bool Scheduler::Impl::Cancel(SequenceId id, FinishReason reason) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return false;
  Sequence* sequence = found->second.get();
  if (sequence->ending != FinishReason::kNone) return false;
  if (executing_ && sequence->planned_rows > 0) {
    sequence->ending = reason;  // its blocks are in use: Commit ends it
  } else {
    End(sequence, {.id = id, .slot = sequence->slot, .finish = reason});
  }
  return true;
}

// Positions that the keys and values of a request can come to need: those of every token but the
// last, which is never computed.
int32_t Scheduler::Impl::LongestContext(const Request& request) const {
  const int64_t size = static_cast<int64_t>(request.prompt.size()) + request.max_tokens;
  return static_cast<int32_t>(std::min<int64_t>(size, config_.max_model_len)) - 1;
}

// --- Plan ---

BatchPlan Scheduler::Impl::Plan() {
  assert(!executing_);
  ++plan_number_;
  plan_ = EmptyPlan();
  admissions_.clear();
  preempted_ = false;
  prefill_left_ = PrefillBudget();
  ServeRunning();
  AdmitWaiting();
  executing_ = !plan_.empty();
  return executing_ ? plan_ : BatchPlan();
}

// Clients read answers as they grow, and every row of a plan delays all of them: beside answers,
// prompts come in smaller chunks. Alone they have the whole plan.
int32_t Scheduler::Impl::PrefillBudget() const {
  const bool answers = std::any_of(running_.begin(), running_.end(),
                                   [](const Sequence* sequence) { return sequence->decodes(); });
  return answers ? config_.max_num_prefill_tokens : config_.max_num_batched_tokens;
}

// Every answer gets its row, in the policy's order, and prompts the rows that are left, the first
// in order as many as it can use. Blocks go in the same order: who finds none takes them from the
// last.
void Scheduler::Impl::ServeRunning() {
  SortByPolicy(&running_);
  for (size_t i = 0; i < running_.size(); ++i) {  // preemption shortens the list behind i
    if (!MakeRoom(i)) continue;
    AddToPlan(running_[i], static_cast<int32_t>(running_.size() - i - 1));
  }
}

// Who waits is taken up in the policy's order until one does not fit: nobody overtakes for being
// small. A plan that had to preempt admits nobody.
void Scheduler::Impl::AdmitWaiting() {
  if (preempted_ || waiting_.empty() || free_slots_.empty()) return;
  SortByPolicy(&waiting_);
  std::vector<uint64_t> in_progress;
  for (const Sequence* sequence : running_) {
    in_progress.push_back(blocks_.HashInProgress(*sequence));
  }
  // A look at a sequence costs as much as its prompt is long, so their number is bounded too.
  const size_t looks = std::min<size_t>(waiting_.size(), config_.max_num_seqs);
  for (size_t i = 0; i < looks; ++i) {
    if (free_slots_.empty() || prefill_left_ == 0) break;
    if (plan_.rows() >= config_.max_num_batched_tokens) break;
    Sequence* sequence = waiting_[i];
    const KvBlocks::Prefix prefix = blocks_.FindPrefix(*sequence);
    if (WaitsForPrefix(sequence, prefix, in_progress)) continue;
    if (!TakeUp(sequence, prefix)) break;
    AddToPlan(sequence, 0);
    in_progress.push_back(blocks_.HashInProgress(*sequence));
  }
  std::erase_if(waiting_, [](const Sequence* sequence) { return sequence->slot >= 0; });
}

// Whether another sequence is computing the very block that this one would compute next: a plan
// later it can be had for nothing.
bool Scheduler::Impl::WaitsForPrefix(Sequence* sequence, const KvBlocks::Prefix& prefix,
                                     const std::vector<uint64_t>& in_progress) const {
  if (prefix.next_hash == 0 || sequence->held_back >= kMaxHeldBack) return false;
  const auto found = std::find(in_progress.begin(), in_progress.end(), prefix.next_hash);
  if (found == in_progress.end()) return false;
  ++sequence->held_back;
  return true;
}

// Gives running_[index] the block that its newest token needs. False: there is none to be had.
bool Scheduler::Impl::MakeRoom(size_t index) {
  Sequence* sequence = running_[index];
  if (blocks_.BlocksFor(sequence->size()) <= static_cast<int32_t>(sequence->blocks.size())) {
    return true;
  }
  while (!blocks_.Grow(sequence)) {
    if (!PreemptOneAfter(index)) return false;
  }
  return true;
}

// Preempts the last in the policy's order that stands behind `index` and is not protected.
bool Scheduler::Impl::PreemptOneAfter(size_t index) {
  for (size_t i = running_.size() - 1; i > index; --i) {
    Sequence* victim = running_[i];
    if (Protected(*victim)) continue;
    running_.erase(running_.begin() + i);
    Preempt(victim);
    return true;
  }
  return false;
}

// Gives a waiting sequence a slot and blocks for all its tokens. One that has been preempted as
// often as it may gets blocks for all it can ever need, and is safe from then on. False: too few
// blocks are free, or so few that those who run would soon preempt it again.
bool Scheduler::Impl::TakeUp(Sequence* sequence, const KvBlocks::Prefix& prefix) {
  const int32_t positions =
      Protected(*sequence) ? LongestContext(sequence->request) : sequence->size();
  const int32_t headroom = static_cast<int32_t>(running_.size());  // a block for each
  if (!blocks_.Open(sequence, prefix, positions, headroom)) return false;

  sequence->slot = free_slots_.back();
  free_slots_.pop_back();
  slots_[sequence->slot] = sequence;
  running_.push_back(sequence);
  waiting_tokens_ -= sequence->prompt_size();
  admissions_.push_back(
      {sequence->request.id, sequence->slot, sequence->computed, sequence->admitted});
  sequence->admitted = true;
  if (config_.enable_prefix_caching && !sequence->request.prompt_logits) {
    prefix_queries_ += sequence->size();
    prefix_hits_ += sequence->computed;
  }
  return true;
}

// As many rows as the budgets allow when each of `followers` is to have one as well.
void Scheduler::Impl::AddToPlan(Sequence* sequence, int32_t followers) {
  const int32_t rows_left = config_.max_num_batched_tokens - plan_.rows();
  const int32_t logits_left = config_.max_logits - plan_.logits() - followers;
  const int32_t share = std::min(std::max(rows_left - followers, 1), rows_left);
  const int32_t wanted = sequence->decodes() ? 1 : std::min(sequence->missing(), prefill_left_);
  const int32_t rows = RowsWithinLogits(*sequence, std::min(wanted, share), logits_left);
  if (rows <= 0) return;
  if (!sequence->decodes()) prefill_left_ -= rows;
  AppendRows(*sequence, rows, config_.block_tokens, &plan_);
  sequence->planned_rows = rows;
  sequence->plans_waited = PlansWaited(*sequence);
  sequence->waiting_since = plan_number_;
}

// --- Commit ---

void Scheduler::Impl::Commit(const BatchPlan& plan, const std::vector<int32_t>& token_ids) {
  assert(executing_ && plan == plan_);
  assert(static_cast<int32_t>(token_ids.size()) == plan.logits());
  executing_ = false;
  int32_t logit = 0;
  for (const int32_t slot : plan.sequence_slots) {
    Sequence* sequence = slots_[slot];
    sequence->computed += std::exchange(sequence->planned_rows, 0);
    blocks_.ShareFullBlocks(sequence);
    SequenceEvent event = {.id = sequence->request.id, .slot = slot};
    for (; logit < plan.logits() && plan.logit_slots[logit] == slot; ++logit) {
      if (plan.logit_targets[logit] >= 0) continue;  // scored, not sampled
      event.logit_index = logit;
      event.token_id = token_ids[logit];
    }
    if (sequence->ending != FinishReason::kNone) {
      End(sequence, {.id = event.id, .slot = slot, .finish = sequence->ending});
    } else if (event.token_id >= 0) {
      Append(sequence, event);
    }
  }
}

// The newly sampled token joins the sequence, and may be its last.
void Scheduler::Impl::Append(Sequence* sequence, SequenceEvent event) {
  const Request& request = sequence->request;
  const bool may_stop = sequence->generated() >= request.min_tokens;
  sequence->tokens.push_back(event.token_id);
  if (may_stop &&
      std::binary_search(request.stop_ids.begin(), request.stop_ids.end(), event.token_id)) {
    event.finish = FinishReason::kStop;
  } else if (sequence->generated() >= request.max_tokens ||
             sequence->size() >= config_.max_model_len) {
    event.finish = FinishReason::kLength;
  }
  if (event.finish == FinishReason::kNone) {
    events_.push_back(event);
  } else {
    End(sequence, event);
  }
}

void Scheduler::Impl::Fail(const BatchPlan& plan) {
  assert(executing_ && plan == plan_);
  executing_ = false;
  for (const int32_t slot : plan.sequence_slots) {
    Sequence* sequence = slots_[slot];
    const bool cancelled = sequence->ending != FinishReason::kNone;
    const FinishReason finish = cancelled ? sequence->ending : FinishReason::kError;
    End(sequence, {.id = sequence->request.id, .slot = slot, .finish = finish});
  }
}

// --- How a sequence leaves ---

void Scheduler::Impl::Preempt(Sequence* sequence) {
  assert(sequence->planned_rows == 0);
  blocks_.Close(sequence);
  ReleaseSlot(sequence);
  ++sequence->preemptions;
  ++preemptions_;
  preempted_ = true;
  waiting_.push_back(sequence);
  waiting_tokens_ += sequence->prompt_size();
}

void Scheduler::Impl::End(Sequence* sequence, SequenceEvent event) {
  if (sequence->slot >= 0) {
    blocks_.Close(sequence);
    ReleaseSlot(sequence);
    std::erase(running_, sequence);
  } else {
    waiting_tokens_ -= sequence->prompt_size();
    std::erase(waiting_, sequence);
  }
  events_.push_back(event);
  sequences_.erase(event.id);
}

void Scheduler::Impl::ReleaseSlot(Sequence* sequence) {
  slots_[sequence->slot] = nullptr;
  free_slots_.push_back(sequence->slot);
  sequence->slot = -1;
}

// --- Order ---

void Scheduler::Impl::SortByPolicy(std::vector<Sequence*>* sequences) const {
  const auto candidate = [this](const Sequence* sequence) {
    return Candidate{sequence->request.priority, sequence->arrival, PlansWaited(*sequence)};
  };
  const auto before = [&](const Sequence* a, const Sequence* b) {
    return GoesBefore(config_.policy, config_.wait_steps_max, candidate(a), candidate(b));
  };
  // Mostly in order already: running sequences keep their places from plan to plan.
  if (!std::is_sorted(sequences->begin(), sequences->end(), before)) {
    std::sort(sequences->begin(), sequences->end(), before);
  }
}

// Plans that gave the sequence no row, those before the one being made.
int64_t Scheduler::Impl::PlansWaited(const Sequence& sequence) const {
  const int64_t since = plan_number_ - sequence.waiting_since - 1;
  return sequence.plans_waited + std::max<int64_t>(since, 0);
}

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
  return stats;
}

std::string Scheduler::Impl::CheckInvariants() const {
  if (waiting_.size() + running_.size() != sequences_.size()) {
    return "scheduler: a sequence neither waits nor runs, or does both";
  }
  int64_t waiting_tokens = 0;
  for (const Sequence* sequence : waiting_) {
    waiting_tokens += sequence->prompt_size();
    if (sequence->slot >= 0 || sequence->computed != 0 || !sequence->blocks.empty() ||
        sequence->planned_rows != 0) {
      return "scheduler: a waiting sequence holds something";
    }
  }
  if (waiting_tokens != waiting_tokens_) return "scheduler: waiting tokens are miscounted";
  if (free_slots_.size() + running_.size() != slots_.size()) return "scheduler: a slot is lost";
  for (const Sequence* sequence : running_) {
    const int32_t room = static_cast<int32_t>(sequence->blocks.size()) * config_.block_tokens;
    if (slots_[sequence->slot] != sequence) return "scheduler: a slot has another owner";
    if (sequence->missing() < 1) return "scheduler: a running sequence has nothing to compute";
    if (sequence->computed + sequence->planned_rows > room) {
      return "scheduler: a sequence computes beyond its blocks";
    }
    if (sequence->size() >= config_.max_model_len) return "scheduler: a context is overrun";
    if (sequence->preemptions > config_.max_preemptions) return "scheduler: preempted too often";
  }
  if (plan_.rows() > config_.max_num_batched_tokens || plan_.logits() > config_.max_logits) {
    return "scheduler: a plan is over its budget";
  }
  return blocks_.CheckInvariants({running_.begin(), running_.end()});
}

// --- The interface ---

Scheduler::Scheduler(const SchedulerConfig& config) : impl_(std::make_unique<Impl>(config)) {}
Scheduler::~Scheduler() = default;

AddResult Scheduler::Add(Request request) { return impl_->Add(std::move(request)); }
bool Scheduler::Cancel(SequenceId id, FinishReason reason) { return impl_->Cancel(id, reason); }
BatchPlan Scheduler::Plan() { return impl_->Plan(); }
const std::vector<Admission>& Scheduler::admissions() const { return impl_->admissions(); }
void Scheduler::Commit(const BatchPlan& plan, const std::vector<int32_t>& token_ids) {
  impl_->Commit(plan, token_ids);
}
void Scheduler::Fail(const BatchPlan& plan) { impl_->Fail(plan); }
std::vector<SequenceEvent> Scheduler::TakeEvents() { return impl_->TakeEvents(); }
SchedulerStats Scheduler::stats() const { return impl_->stats(); }
const SchedulerConfig& Scheduler::config() const { return impl_->config(); }
std::string Scheduler::CheckInvariants() const { return impl_->CheckInvariants(); }

}  // namespace pregate
