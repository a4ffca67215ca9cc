// The scheduler's main path is Plan, which serves who is running and admits who waits, and Commit,
// which moves the frontiers by what the plan computed.
#include <algorithm>
#include <cassert>
#include <memory>
#include <utility>

#include "engine/plan/plan_rows.h"
#include "engine/plan/policy.h"
#include "engine/plan/scheduler_impl.h"

namespace pregate {
namespace {

// Plans that a sequence is held back for a prefix that another is computing, at most. It bounds
// what a hash collision, or a leader that does not get on, can cost.
constexpr int32_t kMaxHeldBack = 64;

constexpr double kGapsOfOthers = 8;

constexpr ExpertMask kAllExperts = ~ExpertMask{0};

}  // namespace

// --- Requests come and go ---

Scheduler::Impl::Impl(const SchedulerConfig& config)
    : config_(config),
      blocks_(config.num_blocks, config.block_tokens, config.enable_prefix_caching,
              config.prefix_hash),
      experts_(config.experts),
      slots_(config.max_num_seqs, nullptr) {
  assert(config.max_num_seqs > 0 && config.max_num_batched_tokens > 0);
  assert(config.max_num_prefill_tokens > 0);
  assert(config.max_logits >= config.max_num_seqs);
  for (int32_t slot = config.max_num_seqs - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

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
  assert(unrouted_.empty());
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

void Scheduler::Impl::OpenPlan() {
  assert(!executing_ && unrouted_.empty());
  ++plan_number_;
  plan_ = EmptyPlan();
  admissions_.clear();
  preempted_ = false;
  opened_ = true;
  if (routes()) experts_.Open();
}

BatchPlan Scheduler::Impl::Plan() {
  if (routes()) {
    if (!opened_) Admit();
    ServeByExpert();
  } else {
    OpenPlan();
    prefill_left_ = PrefillBudget();
    ServeRunning();
    AdmitWaiting();
  }
  DropDrafts();
  opened_ = false;
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
  for (size_t i = 0; i < running_.size(); ++i) MakeRoom(i);  // preemption shortens the list
  DraftAnswers();
  int32_t followers = static_cast<int32_t>(running_.size());
  for (Sequence* sequence : running_) {
    --followers;
    if (Room(*sequence) >= sequence->size()) AddToPlan(sequence, followers, kAllExperts);
  }
}

// The experts decide who of those that are routed has rows; then every answer gets its own, and
// prompts those that are left, as above. Who finds no block has not been routed.
void Scheduler::Impl::ServeByExpert() {
  SortByPolicy(&running_);
  prefill_left_ = PrefillBudget();
  std::vector<Sequence*> ready;
  std::vector<ExpertCandidate> candidates;
  for (Sequence* sequence : running_) {
    if (sequence->routed == sequence->computed) continue;
    ready.push_back(sequence);
    candidates.push_back(CandidateOf(*sequence));
  }
  if (ready.empty()) return;
  const int32_t sequences =
      config_.max_num_step_seqs > 0 ? config_.max_num_step_seqs : config_.max_num_seqs;
  const ExpertChoice choice = experts_.Choose(
      candidates, {config_.max_num_batched_tokens, std::max(prefill_left_, 0), sequences});
  prefill_left_ = choice.prompt_rows;
  int32_t followers = static_cast<int32_t>(choice.chosen.size());
  ExpertMask warm = 0;  // the step runs these whatever is guessed
  for (int32_t index : choice.chosen)
    warm |= candidates[index].prompt ? 0 : candidates[index].first;
  for (int32_t index : choice.chosen) {
    warm = KeepWarmDrafts(ready[index], warm);
    AddToPlan(ready[index], --followers, choice.experts | warm);
    if (ready[index]->planned_rows > 0) warm |= candidates[index].first;
  }
  std::vector<ExpertCandidate> left;
  for (size_t i = 0; i < ready.size(); ++i) {
    if (ready[i]->planned_rows == 0) left.push_back(candidates[i]);
  }
  experts_.AddLoads(left, &plan_);
}

ExpertCandidate Scheduler::Impl::CandidateOf(const Sequence& sequence) const {
  ExpertCandidate candidate;
  candidate.prompt = !sequence.decodes();
  candidate.plans_waited = plan_number_ - sequence.waiting_since - 1;
  candidate.waited = experts_.now() - sequence.served_at;
  candidate.overdue = Overdue(sequence);
  candidate.first = ExpertMask{1} << sequence.experts[sequence.computed];
  // A step that has to load leaves time for more rows of prompts.
  const int32_t most = experts_.all_fit() ? prefill_left_ : config_.max_num_batched_tokens;
  const int32_t wanted = sequence.decodes() ? 1 : sequence.routed - sequence.computed;
  candidate.rows = std::max(std::min(wanted, most), 1);
  const auto experts = sequence.experts.begin() + sequence.computed;
  for (int32_t i = 0; i < candidate.rows; ++i) {
    candidate.experts |= ExpertMask{1} << experts[i];
    candidate.runs += i > 0 && experts[i] != experts[i - 1];
  }
  return candidate;
}

// Passed over for as many plans, or as many of its own usual gaps between tokens, as may be. An
// answer that has just begun has the gaps of the others.
bool Scheduler::Impl::Overdue(const Sequence& sequence) const {
  if (plan_number_ - sequence.waiting_since - 1 >= config_.experts.max_wait_steps) return true;
  const int32_t gaps = std::max(sequence.generated() - 1, 0);
  const double answering = gaps > 0 ? sequence.served_at - sequence.first_token : 0;
  const double usual = (answering + kGapsOfOthers * experts_.usual_gap()) / (gaps + kGapsOfOthers);
  return experts_.now() - sequence.served_at > config_.experts.max_wait_gaps * usual;
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
    if (free_slots_.empty() || prefill_left_ <= 0) break;
    if (plan_.rows() >= config_.max_num_batched_tokens) break;
    Sequence* sequence = waiting_[i];
    const KvBlocks::Prefix prefix = blocks_.FindPrefix(*sequence);
    if (WaitsForPrefix(sequence, prefix, in_progress)) continue;
    if (!TakeUp(sequence, prefix)) break;
    if (routes()) {
      prefill_left_ -= sequence->missing();
    } else {
      AddToPlan(sequence, 0, kAllExperts);
    }
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

bool Scheduler::Impl::Protected(const Sequence& sequence) const {
  return sequence.preemptions >= config_.max_preemptions;
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
  sequence->plans_waited = PlansWaited(*sequence);
  sequence->waiting_since = plan_number_ - 1;
  sequence->served_at = experts_.now();
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
void Scheduler::Impl::AddToPlan(Sequence* sequence, int32_t followers, ExpertMask experts) {
  const int32_t rows_left = config_.max_num_batched_tokens - plan_.rows();
  const int32_t logits_left = config_.max_logits - plan_.logits() - followers;
  const int32_t share = std::min(std::max(rows_left - followers, 1), rows_left);
  const int32_t wanted =
      sequence->decodes() ? 1 + sequence->drafted() : std::min(sequence->missing(), prefill_left_);
  const int32_t known = routes() ? RowsWithinExperts(*sequence, wanted, experts) : wanted;
  const int32_t rows = RowsWithinLogits(*sequence, std::min(known, share), logits_left);
  if (rows <= 0) return;
  if (!sequence->decodes()) prefill_left_ -= rows;
  AppendRows(*sequence, rows, config_.block_tokens, &plan_);
  sequence->planned_rows = rows;
  sequence->plans_waited = PlansWaited(*sequence);
  sequence->waiting_since = plan_number_;
}

// --- Commit ---

void Scheduler::Impl::Commit(const BatchPlan& plan, const std::vector<int32_t>& token_ids,
                             const StepTimes& times) {
  assert(executing_ && plan == plan_);
  assert(static_cast<int32_t>(token_ids.size()) == plan.logits());
  executing_ = false;
  if (routes()) experts_.Ran(plan, times);
  if (config_.max_draft_tokens > 0) draft_gate_.Ran(plan.rows(), times.seconds - times.stall);
  int32_t logit = 0;
  for (const int32_t slot : plan.sequence_slots) {
    Sequence* sequence = slots_[slot];
    const int32_t rows = std::exchange(sequence->planned_rows, 0);
    if (sequence->generated() > 0) experts_.Served(experts_.now() - sequence->served_at);
    sequence->served_at = experts_.now();
    SequenceEvent newest = {.id = sequence->request.id, .slot = slot};
    const int32_t sampled = AppendSampled(sequence, plan, token_ids, &logit, &newest);
    // Drafts that were wrong are computed again, as the tokens that came instead.
    const int32_t standing = sequence->size() - std::min(sampled, 1);
    sequence->computed = std::min(sequence->computed + rows, standing);
    SettleDrafts(sequence, rows, sampled);
    blocks_.ShareFullBlocks(sequence);
    if (sequence->ending != FinishReason::kNone) {
      End(sequence, {.id = newest.id, .slot = slot, .finish = sequence->ending});
    } else if (newest.finish != FinishReason::kNone) {
      End(sequence, newest);
    } else if (sampled > 0) {
      events_.push_back(newest);
    }
  }
}

// What was sampled joins the sequence: how many tokens. The event of the last is left to the
// caller. Nobody reads what was sampled for who has been cancelled.
int32_t Scheduler::Impl::AppendSampled(Sequence* sequence, const BatchPlan& plan,
                                       const std::vector<int32_t>& token_ids, int32_t* logit,
                                       SequenceEvent* newest) {
  int32_t sampled = 0;
  for (; *logit < plan.logits() && plan.logit_slots[*logit] == sequence->slot; ++*logit) {
    if (plan.logit_targets[*logit] >= 0) continue;  // scored, not sampled
    if (token_ids[*logit] == kNotSampled || sequence->ending != FinishReason::kNone) continue;
    assert(newest->finish == FinishReason::kNone);  // nothing is guessed behind an end
    if (sampled++ > 0) events_.push_back(*newest);
    newest->logit_index = *logit;
    newest->token_id = token_ids[*logit];
    newest->finish = Append(sequence, newest->token_id);
  }
  return sampled;
}

// A newly sampled token joins the sequence: whether and why it is its last.
FinishReason Scheduler::Impl::Append(Sequence* sequence, int32_t token_id) {
  const Request& request = sequence->request;
  const bool may_stop = sequence->generated() >= request.min_tokens;
  sequence->tokens.push_back(token_id);
  if (sequence->generated() == 1) sequence->first_token = sequence->served_at;
  if (may_stop && std::binary_search(request.stop_ids.begin(), request.stop_ids.end(), token_id)) {
    return FinishReason::kStop;
  }
  if (sequence->generated() >= request.max_tokens || sequence->size() >= config_.max_model_len) {
    return FinishReason::kLength;
  }
  return FinishReason::kNone;
}

void Scheduler::Impl::Fail(const BatchPlan& plan) {
  assert(executing_ && plan == plan_);
  executing_ = false;
  if (routes()) experts_.DidNotRun();
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

}  // namespace pregate
