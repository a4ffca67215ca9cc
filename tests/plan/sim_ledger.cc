#include "tests/plan/sim_ledger.h"

#include <algorithm>
#include <iterator>

namespace pregate {

Ledger::Ledger(const SchedulerConfig& config, int32_t vocabulary)
    : config_(config),
      vocabulary_(vocabulary),
      slot_owner_(config.max_num_seqs),
      block_written_(config.num_blocks),
      block_writer_(config.num_blocks) {
  const ExpertMask all = (ExpertMask{1} << config.experts.num_experts) - 1;
  for (const ExpertUnit& unit : config.experts.units) {
    pinned_.push_back((unit.owners & all) == all);
    units_.push_back(pinned_.back() ? UnitState::kResident : UnitState::kAbsent);
  }
}

bool Ledger::Require(bool holds, const char* what, SequenceId id) {
  if (holds || !broken_.empty()) return holds;
  broken_ = what;
  if (id != 0) broken_ += " (request " + std::to_string(id) + ")";
  broken_ += " at plan " + std::to_string(plans_);
  return false;
}

std::vector<SequenceId> Ledger::LiveIds() const {
  std::vector<SequenceId> ids;
  for (const auto& [id, account] : live_) ids.push_back(id);
  return ids;
}

// --- Requests come and go ---

void Ledger::Added(const Request& request, AddResult result, const SchedulerStats& before) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  // The last token of a sequence is never computed.
  const int64_t context = std::min<int64_t>(prompt + request.max_tokens, config_.max_model_len) - 1;
  const int64_t room = int64_t{config_.num_blocks} * config_.block_tokens;
  AddResult expected = AddResult::kOk;
  if (prompt >= config_.max_model_len || context > room) {
    expected = AddResult::kNeverFits;
  } else if (before.waiting >= config_.max_num_queued_reqs ||
             before.waiting_tokens + prompt > config_.max_num_queued_tokens) {
    expected = AddResult::kQueueFull;
  }
  Require(result == expected, "Add: another answer than the queue and the pool say", request.id);
  if (result != AddResult::kOk) return;

  Account& account = all_[request.id];
  account.request = request;
  account.alone = AnswerAlone(request, config_.max_model_len, vocabulary_);
  account.tokens = request.prompt;
  account.tokens.insert(account.tokens.end(), account.alone.tokens.begin(),
                        account.alone.tokens.end());
  uint64_t prefix = EmptyPrefix(request.cache_salt);
  for (int32_t token : account.tokens) {
    account.prefixes.push_back(prefix = ExtendPrefix(prefix, token));
    const int32_t before = account.experts.empty() ? -1 : account.experts.back();
    account.experts.push_back(ExpertOf(prefix, before, config_.experts.num_experts));
  }
  account.arrival = static_cast<int64_t>(all_.size());
  live_[request.id] = &account;
  if (config_.policy == SchedulingPolicy::kFcfs) Bound(&account);
}

void Ledger::Cancelled(SequenceId id, FinishReason reason, bool accepted) {
  const auto found = live_.find(id);
  const bool expected = found != live_.end() && found->second->asked == FinishReason::kNone;
  Require(accepted == expected, "I1: Cancel knows another set of live sequences", id);
  if (!accepted || !expected) return;
  found->second->asked = reason;
  somebody_left_ = true;
}

// --- Plans ---

void Ledger::Opened(const std::vector<Admission>& admissions) {
  ++plans_;
  CheckOvertaking(admissions);
  for (auto& [id, account] : live_) DropDrafts(account);
  for (const Admission& admission : admissions) Admit(admission);
}

void Ledger::Planned(const BatchPlan& plan, const std::vector<Admission>& admissions,
                     const FakeModel& model) {
  plan_ = plan;
  in_step_ = !plan.empty();
  Require(plan.empty() == live_.empty(), "I15: there is work, and no plan for it (or the reverse)");
  for (auto& [id, account] : live_) account->planned = false;
  CheckBudgets(plan);
  if (!broken_.empty()) return;
  for (int32_t s = 0; s < plan.sequences(); ++s) CheckSequence(plan, s, model);
  CheckPrefill(plan, admissions);
  CheckWriters(plan);
  CheckWaiting();
  if (!routes() || !broken_.empty()) return;
  CheckExperts(plan, model);
  CheckUnits(plan);
  CheckPassedOver();
}

void Ledger::Admit(const Admission& admission) {
  const auto found = live_.find(admission.id);
  if (!Require(found != live_.end(), "I2: admitted after its end", admission.id)) return;
  if (!Require(admission.slot >= 0 && admission.slot < config_.max_num_seqs, "admission: slot",
               admission.id)) {
    return;
  }
  Account& account = *found->second;
  Require(admission.resumed == account.admitted, "admission: resumed", admission.id);
  const bool may_hit = config_.enable_prefix_caching && !account.request.prompt_logits;
  Require(admission.cached_tokens % config_.block_tokens == 0 &&
              admission.cached_tokens < account.size() && (may_hit || admission.cached_tokens == 0),
          "admission: the prefix reaches the last token, or must not be there", admission.id);
  if (account.admitted) ++resumed_;
  account.resumed += account.admitted;
  Require(account.resumed <= config_.max_preemptions, "I9: preempted too often", admission.id);
  if (may_hit) {
    prefix_queries_ += account.size();
    prefix_hits_ += admission.cached_tokens;
  }
  // Whoever had the slot must have lost it: if it still runs, its next rows are found out.
  const auto before = live_.find(slot_owner_[admission.slot]);
  if (before != live_.end() && before->second->slot == admission.slot) before->second->slot = -1;
  slot_owner_[admission.slot] = admission.id;
  account.admitted = true;
  account.slot = admission.slot;
  account.computed = account.routed = admission.cached_tokens;
  account.passed_over = 0;
}

void Ledger::CheckBudgets(const BatchPlan& plan) {
  const size_t sequences = plan.sequence_slots.size();
  Require(plan.rows() <= config_.max_num_batched_tokens, "I6: rows");
  Require(plan.sequences() <= config_.max_num_seqs, "I6: sequences");
  Require(plan.logits() <= config_.max_logits, "I6: logits");
  if (plan.empty()) return;
  Require(plan.row_start.size() == sequences + 1 && plan.row_start.front() == 0 &&
              plan.row_start.back() == plan.rows(),
          "plan: row_start");
  Require(plan.block_start.size() == sequences + 1 && plan.block_start.front() == 0 &&
              plan.block_start.back() == static_cast<int32_t>(plan.block_ids.size()),
          "plan: block_start");
  Require(plan.positions.size() == plan.token_ids.size() &&
              plan.kv_slots.size() == plan.token_ids.size() && plan.context_len.size() == sequences,
          "plan: one entry for each row and sequence");
  Require(plan.logit_slots.size() == plan.logit_rows.size() &&
              plan.logit_targets.size() == plan.logit_rows.size(),
          "plan: one entry for each logit row");
  Require(std::is_sorted(plan.logit_rows.begin(), plan.logit_rows.end()), "plan: logit_rows");
}

// The rows of one sequence go on where it stands, and what is before them is in its blocks.
void Ledger::CheckSequence(const BatchPlan& plan, int32_t index, const FakeModel& model) {
  const int32_t slot = plan.sequence_slots[index];
  const auto found =
      slot < 0 || slot >= config_.max_num_seqs ? live_.end() : live_.find(slot_owner_[slot]);
  if (!Require(found != live_.end(), "I2: rows for a slot without a live owner")) return;
  Account& account = *found->second;
  const SequenceId id = found->first;
  if (!Require(account.slot == slot && !account.planned, "plan: a sequence has two slots", id)) {
    return;
  }
  account.planned = true;

  const int32_t first_row = plan.row_start[index];
  const int32_t rows = plan.row_start[index + 1] - first_row;
  const int32_t context = plan.context_len[index];
  const int32_t* blocks = &plan.block_ids[plan.block_start[index]];
  const int32_t num_blocks = plan.block_start[index + 1] - plan.block_start[index];
  const int32_t block_tokens = config_.block_tokens;
  if (!Require(rows > 0 && context - rows == account.computed,
               "plan: rows do not go on where the sequence stands", id) ||
      !TakeDrafts(plan, index, &account) ||
      !Require(num_blocks == (context + block_tokens - 1) / block_tokens,
               "plan: blocks are not those of the context", id) ||
      !Require(std::all_of(blocks, blocks + num_blocks,
                           [this](int32_t b) { return b >= 0 && b < config_.num_blocks; }),
               "plan: no such block", id)) {
    return;
  }
  for (int32_t position = 0; position < context; ++position) {
    const int32_t kv_slot =
        blocks[position / block_tokens] * block_tokens + position % block_tokens;
    const int32_t row = first_row + position - account.computed;
    if (position < account.computed) {
      const KvEntry expected = {account.tokens[position], position, account.prefixes[position]};
      if (!Require(model.at(kv_slot) == expected, "KV: memory holds another prefix", id)) return;
    } else if (!Require(plan.kv_slots[row] == kv_slot && plan.positions[row] == position &&
                            plan.token_ids[row] == TokenAt(account, position),
                        "plan: a row has another token, position or place", id)) {
      return;
    }
  }
  CheckLogits(plan, index, &account);
}

// The newest token of a sequence is sampled, and so is what is guessed behind it; a prompt is
// scored if it asked for that.
void Ledger::CheckLogits(const BatchPlan& plan, int32_t index, Account* account) {
  const SequenceId id = account->request.id;
  const int32_t prompt_size = static_cast<int32_t>(account->request.prompt.size());
  auto logit =
      std::lower_bound(plan.logit_rows.begin(), plan.logit_rows.end(), plan.row_start[index]) -
      plan.logit_rows.begin();
  for (int32_t row = plan.row_start[index]; row < plan.row_start[index + 1]; ++row) {
    const int32_t position = plan.positions[row];
    const bool sampled = position + 1 >= account->size();
    const bool scored = account->request.prompt_logits && position + 1 < prompt_size;
    const bool is_logit = logit < plan.logits() && plan.logit_rows[logit] == row;
    if (!Require(is_logit == (sampled || scored), "plan: logit rows", id)) return;
    if (!is_logit) continue;
    Require(plan.logit_slots[logit] == account->slot, "plan: logit slots", id);
    Require(plan.logit_targets[logit] == (sampled ? -1 : account->tokens[position + 1]),
            "plan: logit targets", id);
    account->scored += scored && position == account->scored;
    if (sampled && account->request.prompt_logits) {
      Require(account->scored == prompt_size - 1, "plan: a position was not scored", id);
    }
    ++logit;
  }
}

// A plan that carries an answer on has few rows for everything else. Who was admitted just now does
// not count as an answer, even if the prefix cache had all that he has computed before.
void Ledger::CheckPrefill(const BatchPlan& plan, const std::vector<Admission>& admissions) {
  if (!broken_.empty()) return;
  bool answers = false;
  int32_t prefill = 0;
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    const Account& account = all_.at(slot_owner_[plan.sequence_slots[s]]);
    const bool decodes = Decodes(account);
    const bool is_new = std::any_of(
        admissions.begin(), admissions.end(),
        [&account](const Admission& admission) { return admission.id == account.request.id; });
    answers |= decodes && !is_new;
    if (!decodes) prefill += plan.row_start[s + 1] - plan.row_start[s];
  }
  // While experts are loaded there is time for more.
  Require(!answers || prefill <= config_.max_num_prefill_tokens || config_.experts.cache_bytes > 0,
          "I6: rows beside answers");
}

// A block that is written belongs to its writer alone, and no place is written twice.
void Ledger::CheckWriters(const BatchPlan& plan) {
  if (!broken_.empty()) return;
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    const int32_t first_written = plan.positions[plan.row_start[s]] / config_.block_tokens;
    for (int32_t i = plan.block_start[s] + first_written; i < plan.block_start[s + 1]; ++i) {
      const int32_t block = plan.block_ids[i];
      Require(block_written_[block] != plans_, "I3: a block has two writers");
      block_written_[block] = plans_;
      block_writer_[block] = s;
    }
  }
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    for (int32_t i = plan.block_start[s]; i < plan.block_start[s + 1]; ++i) {
      const int32_t block = plan.block_ids[i];
      Require(block_written_[block] != plans_ || block_writer_[block] == s,
              "I3: a block is read by others while it is written");
    }
  }
}

// --- Events ---

void Ledger::Committed(const std::vector<SequenceEvent>& events,
                       const std::vector<int32_t>& token_ids) {
  std::vector<int32_t> sizes;
  for (const int32_t slot : plan_.sequence_slots) {
    sizes.push_back(all_.at(slot_owner_[slot]).size());
  }
  std::map<SequenceId, int64_t> expected;  // tokens
  for (int32_t i = 0; i < plan_.logits(); ++i) {
    const SequenceId id = slot_owner_[plan_.logit_slots[i]];
    const Account& account = all_.at(id);
    const bool goes_on = account.asked == FinishReason::kNone &&
                         account.delivered + expected[id] < std::ssize(account.alone.tokens);
    expected[id] += plan_.logit_targets[i] < 0 && token_ids[i] != kNotSampled && goes_on;
  }
  for (const SequenceEvent& event : events) {
    expected[event.id] -= event.token_id >= 0;
    CheckEvent(event, &token_ids);
  }
  for (const auto& [id, left] : expected) {
    Require(left == 0, "I5: a sampled token has no event", id);
  }
  for (int32_t s = 0; s < plan_.sequences(); ++s) SettleDrafts(s, sizes[s]);
  CloseStep(/*step_failed=*/false);
}

void Ledger::Failed(const std::vector<SequenceEvent>& events) {
  step_failed_ = somebody_left_ = true;
  for (const SequenceEvent& event : events) CheckEvent(event, nullptr);
  CloseStep(/*step_failed=*/true);
  step_failed_ = false;
}

void Ledger::Between(const std::vector<SequenceEvent>& events) {
  for (const SequenceEvent& event : events) CheckEvent(event, nullptr);
  for (const auto& [id, account] : live_) {
    Require(account->asked == FinishReason::kNone || account->planned,
            "I1: cancelled, and no event", id);
  }
}

// Whoever was cancelled has ended by now, and so has everybody of a failed step.
void Ledger::CloseStep(bool step_failed) {
  in_step_ = false;
  for (const auto& [id, account] : live_) {
    Require(account->asked == FinishReason::kNone, "I1: cancelled in a step, and no event", id);
    Require(!step_failed || !account->planned, "I1: outlived its failed step", id);
    account->planned = false;
  }
}

void Ledger::CheckEvent(const SequenceEvent& event, const std::vector<int32_t>* token_ids) {
  const auto found = live_.find(event.id);
  if (!Require(found != live_.end(), "I2: an event after the end", event.id)) return;
  Account& account = *found->second;
  if (event.token_id >= 0) {
    CheckToken(event, token_ids, &account);
  } else {
    Require(event.finish != FinishReason::kNone && event.logit_index == -1,
            "an event that says nothing", event.id);
  }
  if (event.finish == FinishReason::kNone) {
    const bool more = account.delivered < static_cast<int32_t>(account.alone.tokens.size());
    Require(more, "I5: goes on after its last token", event.id);
  } else {
    CheckFinish(event, step_failed_, &account);
  }
}

void Ledger::CheckToken(const SequenceEvent& event, const std::vector<int32_t>* token_ids,
                        Account* account) {
  if (!Require(token_ids != nullptr && account->planned && account->asked == FinishReason::kNone,
               "I5: a token without a row", event.id)) {
    return;
  }
  const int32_t logit = event.logit_index;
  if (!Require(logit >= 0 && logit < plan_.logits() && event.slot == account->slot &&
                   plan_.logit_slots[logit] == account->slot && plan_.logit_targets[logit] < 0 &&
                   (*token_ids)[logit] == event.token_id,
               "I5: an event names another logit row", event.id)) {
    return;
  }
  const int32_t count = static_cast<int32_t>(account->alone.tokens.size());
  Require(account->delivered < count && account->alone.tokens[account->delivered] == event.token_id,
          "I5: another token than alone", event.id);
  ++account->delivered;
}

void Ledger::CheckFinish(const SequenceEvent& event, bool step_failed, Account* account) {
  const SequenceId id = event.id;
  if (account->asked != FinishReason::kNone) {
    Require(event.finish == account->asked, "I1: ends for another reason than asked", id);
  } else if (event.finish == FinishReason::kError) {
    Require(step_failed && account->planned, "I1: an error without a failed step", id);
  } else {
    Require(event.finish == account->alone.finish &&
                account->delivered == static_cast<int32_t>(account->alone.tokens.size()),
            "I5: ends otherwise than alone", id);
  }
  if (event.slot >= 0) {
    Require(event.slot == account->slot, "an event names another slot", id);
  } else {
    Require(!account->planned, "an event names no slot", id);
    ended_preempted_ += account->admitted;
  }
  if (account->allowed > 0 &&
      account->plans * slowest_.allowed > slowest_.plans * account->allowed) {
    slowest_ = {account->plans, account->allowed};
  }
  account->ended = true;
  live_.erase(id);
}

// --- Counts ---

void Ledger::CheckCounts(const SchedulerStats& stats) {
  int64_t admitted = 0, tokens_never_admitted = 0;
  for (const auto& [id, account] : live_) {
    admitted += account->admitted;
    if (!account->admitted) tokens_never_admitted += std::ssize(account->request.prompt);
  }
  const int64_t preempted = admitted - stats.running;
  Require(stats.waiting + stats.running == live(), "I13: waiting + running");
  Require(stats.running <= config_.max_num_seqs, "I13: running");
  Require(preempted >= 0 && stats.preemptions == resumed_ + ended_preempted_ + preempted,
          "I13: preemptions");
  Require(preempted > 0 ? stats.waiting_tokens > tokens_never_admitted
                        : stats.waiting_tokens == tokens_never_admitted,
          "I13: waiting tokens");
  Require(stats.prefix_queries == prefix_queries_ && stats.prefix_hits == prefix_hits_,
          "I13: prefix queries and hits");
  Require(stats.drafts == drafts_ && stats.draft_tokens == draft_tokens_ &&
              stats.accepted_tokens == accepted_tokens_,
          "I13: drafts");
  Require(stats.blocks_total == config_.num_blocks && stats.blocks_used >= 0 &&
              stats.blocks_cached >= 0 &&
              stats.blocks_used + stats.blocks_cached <= stats.blocks_total &&
              (config_.enable_prefix_caching || stats.blocks_cached == 0),
          "I3: blocks used and cached");
  Require(in_step_ || stats.blocks_used <= MostBlocks(), "D4: blocks for guesses");
  if (routes()) CheckUnitCounts(stats);
}

void Ledger::CheckAtRest(const SchedulerStats& stats) {
  CheckCounts(stats);
  Require(live_.empty(), "I14: somebody is left");
  Require(stats.blocks_used == 0, "I4: blocks are owned at rest");
  for (const auto& [id, account] : all_) Require(account.ended, "I1: never ended", id);
}

}  // namespace pregate
