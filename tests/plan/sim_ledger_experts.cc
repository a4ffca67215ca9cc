// Ledger: experts, and the units of their weights.
#include <algorithm>

#include "tests/plan/sim_ledger.h"

namespace pregate {

// Whether the first in order gets rows in every plan.
bool Ledger::InOrder() const {
  const ExpertConfig& experts = config_.experts;
  return !routes() || (experts.policy == ExpertPolicy::kFcfs && experts.cache_bytes == 0);
}

// Whoever is overdue gets his rows in the order of waiting, at least one in every plan but those
// that keep a promise.
int64_t Ledger::LongestPassedOver() const {
  return config_.experts.max_wait_steps + 2 * config_.max_num_seqs;
}

bool Ledger::Decodes(const Account& account) {
  return account.delivered > 0 && account.computed + 1 == account.size();
}

// How far the router may be told to be ahead of a prompt's steps.
int32_t Ledger::Lookahead() const {
  const int32_t asked = config_.router_lookahead_tokens;
  return asked < 0 ? config_.max_num_batched_tokens : asked;
}

// And how far it may be, since the next step's rows are known in any case: few beside an answer. As
// long as somebody has lost his slot, it is not known whether one runs.
int32_t Ledger::MostAhead(const SchedulerStats& stats) const {
  int32_t admitted = 0;
  bool answers = false;
  for (const auto& [id, account] : live_) {
    admitted += account->admitted;
    answers |= account->admitted && Decodes(*account);
  }
  const bool few = answers && admitted == stats.running;
  const int32_t rows = config_.max_num_batched_tokens;
  return std::max(Lookahead(), few ? std::min(config_.max_num_prefill_tokens, rows) : rows);
}

void Ledger::Unrouted(const BatchPlan& plan, const FakeModel& model, const SchedulerStats& stats) {
  CheckBudgets(plan);
  const int32_t most_ahead = MostAhead(stats);
  if (!Require(plan.logits() == 0 && plan.expert_ids.empty(), "E1: to be routed, with logits") ||
      !broken_.empty()) {
    return;
  }
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    const SequenceId id = slot_owner_[plan.sequence_slots[s]];
    const auto found = live_.find(id);
    if (!Require(found != live_.end(), "E1: routes for who has ended", id)) return;
    Account& account = *found->second;
    const int32_t rows = plan.row_start[s + 1] - plan.row_start[s];
    const int32_t context = plan.context_len[s];
    if (!Require(account.slot == plan.sequence_slots[s] && context - rows == account.routed,
                 "E1: rows do not go on where the router stands", id) ||
        !Require(Decodes(account) || context <= account.computed + most_ahead,
                 "E1: a prompt is routed too far ahead", id) ||
        !TakeDrafts(plan, s, &account)) {
      return;
    }
    for (int32_t position = 0; position < context; ++position) {
      const int32_t block = plan.block_ids[plan.block_start[s] + position / config_.block_tokens];
      const int32_t kv_slot = block * config_.block_tokens + position % config_.block_tokens;
      const int32_t row = plan.row_start[s] + position - account.routed;
      if (position < account.routed) {
        Require(model.router_at(kv_slot) == Expected(account, position),
                "E1: the router finds another prefix", id);
      } else {
        Require(plan.token_ids[row] == TokenAt(account, position) &&
                    plan.positions[row] == position && plan.kv_slots[row] == kv_slot,
                "E1: a row has another token, position or place", id);
      }
    }
    account.routed = context;
  }
}

// Whoever has a slot is routed up to his newest token, or as far ahead as may be; who found no
// block for that is the last. As long as somebody has lost his slot, it is not known who: no count
// goes on.
void Ledger::AllRouted(const SchedulerStats& stats) {
  int32_t admitted = 0;
  for (const auto& [id, account] : live_) admitted += account->admitted;
  const bool all_run = admitted == stats.running;
  somebody_left_ |= stats.preemptions > 0;
  for (const auto& [id, account] : live_) {
    account->passed_over *= all_run;
    const bool boundary = account->routed % config_.block_tokens == 0;
    const int32_t known = std::min(account->size(), account->computed + std::max(Lookahead(), 1));
    Require(!all_run || !account->admitted || account->routed >= known || boundary,
            "E1: not routed at once", id);
  }
}

void Ledger::CheckExperts(const BatchPlan& plan, const FakeModel& model) {
  const int32_t cap = config_.max_num_step_seqs;
  Require(cap == 0 || plan.sequences() <= cap, "I6: sequences of a step");
  if (!Require(plan.expert_ids.size() == plan.token_ids.size(), "E1: an expert for each row")) {
    return;
  }
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    const SequenceId id = slot_owner_[plan.sequence_slots[s]];
    const Account& account = all_.at(id);
    if (!Require(plan.context_len[s] <= account.routed, "E1: rows that were not routed", id)) {
      return;
    }
    for (int32_t row = plan.row_start[s]; row < plan.row_start[s + 1]; ++row) {
      Require(plan.expert_ids[row] == Expected(account, plan.positions[row]).expert,
              "E1: another expert than alone", id);
    }
    for (int32_t position = 0; position < plan.context_len[s]; ++position) {
      const int32_t block = plan.block_ids[plan.block_start[s] + position / config_.block_tokens];
      const int32_t kv_slot = block * config_.block_tokens + position % config_.block_tokens;
      Require(model.router_at(kv_slot) == Expected(account, position),
              "E1: the router left another prefix", id);
    }
  }
}

int64_t Ledger::UnitBytes() const {
  int64_t bytes = 0;
  for (size_t i = 0; i < units_.size(); ++i) {
    if (units_[i] != UnitState::kAbsent) bytes += config_.experts.units[i].bytes;
  }
  return bytes;
}

void Ledger::CheckUnits(const BatchPlan& plan) {
  CheckDraftedExperts(plan);
  if (config_.experts.cache_bytes == 0) {
    Require(plan.evicted_units.empty() && plan.loads_now.empty() && plan.loads_next.empty() &&
                plan.streamed_units.empty(),
            "E2: everything is resident, and something moves");
    return;
  }
  ExpertMask experts = 0;
  for (int32_t expert : plan.expert_ids) experts |= ExpertMask{1} << expert;
  const auto needed = [&](int32_t unit) {
    return (config_.experts.units[unit].owners & experts) != 0;
  };
  const auto streamed = [&](int32_t unit) {
    return std::count(plan.streamed_units.begin(), plan.streamed_units.end(), unit) == 1;
  };
  for (int32_t unit : plan.evicted_units) {
    Require(
        units_[unit] == UnitState::kResident && !pinned_[unit] && (!needed(unit) || streamed(unit)),
        "E2: evicts what is needed, pinned or not there");
    units_[unit] = UnitState::kAbsent;
  }
  for (int32_t unit = 0; unit < static_cast<int32_t>(units_.size()); ++unit) {
    if (!needed(unit) || pinned_[unit]) continue;
    unit_hits_ += units_[unit] == UnitState::kResident;
    unit_late_ += units_[unit] == UnitState::kLoading;
    unit_misses_ += units_[unit] == UnitState::kAbsent;
  }
  int64_t stream_bytes = 0;
  for (int32_t unit : plan.streamed_units) {
    Require(needed(unit) && units_[unit] == UnitState::kAbsent,
            "E2: streams what is not needed, there or on its way");
    stream_bytes += StreamBytes(config_.experts.units[unit].bytes, config_.experts.num_layers,
                                plan.stream_layers);
    ++unit_loads_;
  }
  Require(
      plan.streamed_units.empty() || plan.stream_layers >= std::min(config_.experts.num_layers, 2),
      "E2: one layer runs while the next one comes");
  for (const std::vector<int32_t>* loads : {&plan.loads_now, &plan.loads_next}) {
    for (int32_t unit : *loads) {
      Require(units_[unit] == UnitState::kAbsent, "E2: loads what is there or on its way");
      Require(needed(unit) == (loads == &plan.loads_now), "E2: in the wrong list of loads");
      units_[unit] = UnitState::kLoading;
      ++unit_loads_;
    }
  }
  for (int32_t unit = 0; unit < static_cast<int32_t>(units_.size()); ++unit) {
    Require(!needed(unit) || units_[unit] != UnitState::kAbsent || streamed(unit),
            "E2: a needed unit is absent");
  }
  Require(UnitBytes() + stream_bytes <= config_.experts.cache_bytes, "E2: units do not fit");
  CheckHostUnits(plan);
}

// What keeps a place in the host's memory comes by this plan, and all of them fit.
void Ledger::CheckHostUnits(const BatchPlan& plan) {
  in_host_.resize(units_.size());
  for (const int32_t unit : plan.host_evicted_units) {
    Require(in_host_[unit], "E5: a unit that is not in the host's memory loses its place");
    in_host_[unit] = false;
  }
  for (const int32_t unit : plan.host_kept_units) {
    const auto comes_by = [unit](const std::vector<int32_t>& units) {
      return std::count(units.begin(), units.end(), unit) == 1;
    };
    Require(!in_host_[unit], "E5: a unit has two places in the host's memory");
    Require(comes_by(plan.loads_now) || comes_by(plan.streamed_units) || comes_by(plan.loads_next),
            "E5: a unit keeps a place and does not come");
    in_host_[unit] = true;
  }
  int64_t bytes = 0;
  for (size_t i = 0; i < units_.size(); ++i) {
    if (in_host_[i]) bytes += config_.experts.units[i].bytes;
  }
  Require(bytes <= config_.experts.host_bytes, "E5: units do not fit in the host's memory");
}

void Ledger::UnitLoaded(int32_t unit) {
  Require(units_[unit] == UnitState::kLoading, "E2: loaded, and nobody asked for it");
  units_[unit] = UnitState::kResident;
}

void Ledger::UnitFailed(int32_t unit) {
  somebody_left_ = true;
  units_[unit] = UnitState::kAbsent;
}

void Ledger::CheckPassedOver() {
  for (auto& [id, account] : live_) {
    const bool waits = account->slot < 0 || slot_owner_[account->slot] != id;
    const bool no_block = account->routed == account->computed;  // so that it was not routed
    account->passed_over = waits || no_block || account->planned ? 0 : account->passed_over + 1;
    const bool bounded = config_.experts.policy == ExpertPolicy::kPaper ||
                         config_.experts.policy == ExpertPolicy::kPlanned;
    Require(!bounded || account->passed_over <= LongestPassedOver(), "E3: passed over too long",
            id);
  }
}

void Ledger::CheckUnitCounts(const SchedulerStats& stats) {
  const ExpertCacheStats& cache = stats.experts.cache;
  if (config_.experts.cache_bytes == 0) return;
  int64_t loads = 0;
  for (int64_t count : cache.loads) loads += count;
  Require(cache.hits == unit_hits_ && cache.late == unit_late_ && cache.misses == unit_misses_ &&
              loads == unit_loads_,
          "I13: hits, late, misses and loads of units");
  Require(cache.resident_bytes == UnitBytes(), "I13: bytes of units");
  Require(somebody_left_ || cache.wasted_bytes[0] == 0, "E4: loaded for somebody, and not used");
}

}  // namespace pregate
