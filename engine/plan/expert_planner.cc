#include "engine/plan/expert_planner.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

namespace pregate {
namespace {

constexpr double kStickinessMemory = 256;  // sampled tokens
constexpr double kGapMemory = 1024;        // rows
constexpr double kGainMemory = 64;         // plans that could gain
constexpr double kGainToStart = 1.05;      // less does not pay for the unequal waits
constexpr double kGainToStop = 1.025;
constexpr double kAssumedLoadRate = 1e9;  // bytes a second, until one has been seen

ExpertMask MaskOf(const BatchPlan& plan) {
  ExpertMask experts = 0;
  for (int32_t expert : plan.expert_ids) experts |= ExpertMask{1} << expert;
  return experts;
}

}  // namespace

const char* Explain(ExpertBatching state) {
  switch (state) {
    case ExpertBatching::kAsTold:
      return "expert-batching: as told";
    case ExpertBatching::kLearning:
      return "expert-batching: off: too few steps seen to know what one costs";
    case ExpertBatching::kNothingToGain:
      return "expert-batching: off: all experts resident and no step cap binds";
    case ExpertBatching::kTooLittle:
      return "expert-batching: off: steps by expert are expected to win too little";
    case ExpertBatching::kOn:
      return "expert-batching: on: steps by expert are expected to win";
  }
  return "";
}

ExpertPlanner::ExpertPlanner(const ExpertConfig& config)
    : config_(config), model_([&config] {
        int64_t bytes = 0;
        for (const ExpertUnit& unit : config.units) bytes += unit.bytes;
        return bytes;
      }()) {
  assert(config.num_experts >= 1 && config.num_experts <= kMaxExperts);
  const ExpertMask all = ~ExpertMask{0} >> (kMaxExperts - config.num_experts);
  int64_t bytes = 0, pinned_bytes = 0;
  std::vector<ExpertCache::Unit> units;
  std::vector<int64_t> evictable;
  for (const ExpertUnit& unit : config.units) {
    const bool pinned = (unit.owners & all) == all;
    bytes += unit.bytes;
    costs_.units.push_back({.owners = unit.owners, .bytes = unit.bytes, .pinned = pinned});
    units.push_back({unit.bytes, pinned});
    shadow_unit_.push_back(pinned ? -1 : static_cast<int32_t>(evictable.size()));
    if (pinned) pinned_bytes += unit.bytes;
    if (!pinned) evictable.push_back(unit.bytes);
  }
  costs_.layers = std::max(config.num_layers, 1);
  costs_.capacity = bytes;
  costs_.all_fit = true;
  if (config.cache_bytes > 0 && config.cache_bytes < bytes) {
    costs_.capacity = config.cache_bytes;
    costs_.all_fit = false;
    if (config.host_bytes > 0) {
      std::vector<ExpertCache::Unit> none_pinned = units;
      for (ExpertCache::Unit& unit : none_pinned) unit.pinned = false;
      host_.emplace(std::move(none_pinned), config.host_bytes, costs_.layers,
                    ExpertEviction::kPlanned, /*seed=*/1);
    }
    cache_.emplace(std::move(units), config.cache_bytes, costs_.layers, config.eviction,
                   /*seed=*/1);
    shadows_.emplace(std::move(evictable), config.cache_bytes - pinned_bytes, /*seed=*/1);
  }
  load_started_.resize(costs_.units.size());
  for (int32_t e = 0; e < config.num_experts; ++e) assert(costs_.Fits(ExpertMask{1} << e));
  if (config.policy == ExpertPolicy::kAuto) batching_ = ExpertBatching::kLearning;
}

std::vector<int32_t> ExpertPlanner::UnitsOf(ExpertMask experts) const {
  std::vector<int32_t> units;
  for (int32_t unit = 0; unit < static_cast<int32_t>(costs_.units.size()); ++unit) {
    if ((costs_.units[unit].owners & experts) != 0) units.push_back(unit);
  }
  return units;
}

bool ExpertPlanner::Resident(ExpertMask experts) const {
  const std::vector<int32_t> units = UnitsOf(experts);
  return !cache_ || std::all_of(units.begin(), units.end(), [this](int32_t unit) {
    return cache_->state(unit) == ExpertCache::State::kResident;
  });
}

// Whether any expert fits beside this one and those promised: steps must go on.
bool ExpertPlanner::LeavesRoom(int32_t expert) const {
  for (int32_t e = 0; e < config_.num_experts; ++e) {
    const ExpertMask together = promised_ | ExpertMask{1} << expert | ExpertMask{1} << e;
    if (costs_.Bytes(together) > costs_.capacity) return false;
  }
  return true;
}

// --- Who gets rows ---

ExpertChoice ExpertPlanner::Choose(const std::vector<ExpertCandidate>& candidates,
                                   const ExpertLimits& limits) {
  ExpertMask waited_for = 0;
  for (const ExpertCandidate& candidate : candidates) waited_for |= candidate.first;
  promised_ &= waited_for;
  costs_.promised = 0;
  for (int32_t e = 0; e < config_.num_experts; ++e) {
    const ExpertMask expert = ExpertMask{1} << e;
    if ((promised_ & expert) != 0 && Resident(expert)) costs_.promised |= expert;
  }
  if (config_.policy == ExpertPolicy::kAuto) return ChooseAutomatically(candidates, limits);
  return ChooseExperts(config_.policy, candidates, limits, costs_);
}

void ExpertPlanner::Open() {
  const StepCost& cost = model_.cost();
  costs_.fixed = cost.fixed;
  costs_.per_row = cost.per_row;
  const double seen = model_.load_seconds_per_byte();
  const double load = seen > 0 ? seen : 1 / kAssumedLoadRate;
  for (size_t i = 0; i < costs_.units.size(); ++i) {
    ExpertCosts::Unit& unit = costs_.units[i];
    const double bytes = static_cast<double>(unit.bytes);
    unit.read = cost.per_byte * bytes;
    const ExpertCache::State state =
        cache_ ? cache_->state(static_cast<int32_t>(i)) : ExpertCache::State::kResident;
    const bool loading = state == ExpertCache::State::kLoading;
    unit.held = unit.pinned || loading || (unit.owners & promised_) != 0;
    unit.load = state == ExpertCache::State::kResident ? 0 : load * bytes;
    if (loading) {  // the rest of it
      unit.load = std::max(unit.load - (now_ - load_started_[i]), 0.0);
    }
  }
}

// Nobody waits who need not: only plans that have to pass somebody over, or to load, may choose by
// cost. Each of these compares both ways; a mean over many decides, and staying is easier than
// changing.
ExpertChoice ExpertPlanner::ChooseAutomatically(const std::vector<ExpertCandidate>& candidates,
                                                const ExpertLimits& limits) {
  ExpertChoice in_order = ChooseInOrder(ExpertPolicy::kFcfs, candidates, limits, costs_);
  // Prompts that wait for their share of rows alone are no cap.
  const bool capped = in_order.chosen.size() < candidates.size() &&
                      (static_cast<int32_t>(in_order.chosen.size()) >= limits.sequences ||
                       in_order.rows >= limits.rows);
  const bool was_on = batching_ == ExpertBatching::kOn;
  // Where steps wait for loads the first fit will do: a step in order costs more than it can err.
  const StepCost& cost = model_.cost();
  const bool ready = model_.ready() || (cache_ && cost.Seconds(1, 1) > 0);
  if (!ready || (!cache_ && !capped)) {
    if (!was_on) batching_ = ready ? ExpertBatching::kNothingToGain : ExpertBatching::kLearning;
    return in_order;
  }
  gain_ += (GainByCost(candidates, limits, in_order) - gain_) / kGainMemory;
  const bool on = gain_ > (was_on ? kGainToStop : kGainToStart);
  batching_ = on ? ExpertBatching::kOn : ExpertBatching::kTooLittle;
  return on ? ChooseByCost(candidates, limits, costs_) : in_order;
}

// Sequences served a second, by cost over in order, if both were the rule: as if nobody had waited
// yet, since who waits for long is served first by cost and would never have waited in order. The
// rows are to be computed in either case, so each sequence pays for its share of those in order.
double ExpertPlanner::GainByCost(std::vector<ExpertCandidate> candidates,
                                 const ExpertLimits& limits, const ExpertChoice& in_order) const {
  for (ExpertCandidate& candidate : candidates) {
    candidate.plans_waited = 0;
    candidate.overdue = false;
  }
  const ExpertChoice by_cost = ChooseByCost(candidates, limits, costs_);
  if (in_order.chosen.empty() || by_cost.chosen.empty()) return 1;
  const auto each = [](double seconds, const ExpertChoice& choice) {
    return seconds / static_cast<double>(choice.chosen.size());
  };
  const double rows = each(costs_.per_row * in_order.rows, in_order);
  const auto seconds = [&](const ExpertChoice& choice) {
    const double all = costs_.Seconds(choice.rows, choice.experts);
    return rows + each(all - costs_.per_row * choice.rows, choice);
  };
  const double by_cost_seconds = seconds(by_cost);
  return by_cost_seconds > 0 ? seconds(in_order) / by_cost_seconds : 1;
}

// --- What is loaded ---

void ExpertPlanner::AddLoads(const std::vector<ExpertCandidate>& left, BatchPlan* plan) {
  if (!cache_) return;
  const ExpertMask experts = MaskOf(*plan);
  const std::vector<double> queue = ExpectedQueues(left, *plan);
  const std::vector<double> expected = OfUnits(queue);
  const std::vector<int32_t> units = UnitsOf(experts);
  cache_->Open(units, expected, plan);
  promised_ &= ~experts;
  std::vector<int32_t> accesses;
  for (int32_t unit : units) {
    if (shadow_unit_[unit] >= 0) accesses.push_back(shadow_unit_[unit]);
  }
  shadows_->Observe(accesses);
  if (config_.prefetch && !cache_->loading()) Prefetch(left, queue, expected, plan);
  if (host_) KeepInHost(expected, plan);
  for (int32_t unit : plan->loads_now) load_started_[unit] = now_;
  for (int32_t unit : plan->loads_next) load_started_[unit] = now_;
}

// The lane is idle: loads the expert that a later plan will need most, of those that somebody
// waits for; of somebody who is overdue first.
void ExpertPlanner::Prefetch(const std::vector<ExpertCandidate>& left,
                             const std::vector<double>& queue, const std::vector<double>& expected,
                             BatchPlan* plan) {
  const auto longest_wait = std::max_element(
      left.begin(), left.end(), [](const ExpertCandidate& a, const ExpertCandidate& b) {
        return std::make_pair(a.overdue, a.plans_waited) <
               std::make_pair(b.overdue, b.plans_waited);
      });
  ExpertMask wanted = 0;
  for (const ExpertCandidate& candidate : left) wanted |= candidate.first;
  if (wanted == 0) return;
  if (longest_wait->overdue) wanted = longest_wait->first;
  int32_t best = -1;
  for (int32_t e = 0; e < config_.num_experts; ++e) {
    if ((wanted >> e & 1) == 0 || (best >= 0 && queue[e] <= queue[best])) continue;
    if (!Resident(ExpertMask{1} << e) && LeavesRoom(e)) best = e;
  }
  if (best < 0) return;
  const double worth = longest_wait->overdue ? ExpertCache::kPromised : queue[best];
  const ExpertMask expert = ExpertMask{1} << best;
  if (cache_->Prefetch(UnitsOf(expert), worth, LoadCause::kKnown, expected, plan)) {
    promised_ |= expert;
  }
}

// What the plan loads passes through the host's memory. It stays there if it is wanted more than
// what gives way for it; that a read may fail changes nothing, since the place is kept for the
// next.
void ExpertPlanner::KeepInHost(const std::vector<double>& expected, BatchPlan* plan) {
  const auto units = static_cast<int32_t>(costs_.units.size());
  const auto kept = [this](int32_t unit) {
    return host_->state(unit) == ExpertCache::State::kResident;
  };
  std::vector<bool> before;
  for (int32_t unit = 0; unit < units; ++unit) before.push_back(kept(unit));
  for (const std::vector<int32_t>* loads :
       {&plan->loads_now, &plan->streamed_units, &plan->loads_next}) {
    for (const int32_t unit : *loads) {
      BatchPlan unused;
      host_->Prefetch({unit}, expected[unit], LoadCause::kKnown, expected, &unused);
      host_->Loaded(unit);
    }
  }
  // What one of them has been given the next may have taken again.
  for (int32_t unit = 0; unit < units; ++unit) {
    if (before[unit] && !kept(unit)) plan->host_evicted_units.push_back(unit);
    if (!before[unit] && kept(unit)) plan->host_kept_units.push_back(unit);
  }
}

std::vector<double> ExpertPlanner::ExpectedQueues(const std::vector<ExpertCandidate>& left,
                                                  const BatchPlan& plan) const {
  std::vector<double> queue(config_.num_experts);
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    queue[plan.expert_ids[plan.row_start[s + 1] - 1]] += stickiness_;
  }
  const double moves = (1 - stickiness_) * plan.sequences() / config_.num_experts;
  for (double& rows : queue) rows += moves;
  for (const ExpertCandidate& candidate : left) {
    queue[std::countr_zero(candidate.first)] += 1;
  }
  return queue;
}

std::vector<double> ExpertPlanner::OfUnits(const std::vector<double>& queue) const {
  std::vector<double> expected(costs_.units.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    for (int32_t e = 0; e < config_.num_experts; ++e) {
      if ((costs_.units[i].owners >> e & 1) == 0) continue;
      expected[i] += queue[e] + ((promised_ >> e & 1) != 0 ? ExpertCache::kPromised : 0);
    }
  }
  return expected;
}

// --- What happened ---

void ExpertPlanner::Sampled(int32_t expert_before, int32_t expert) {
  stickiness_ += ((expert == expert_before ? 1 : 0) - stickiness_) / kStickinessMemory;
}

void ExpertPlanner::Served(double gap) {
  usual_gap_ += (gap - usual_gap_) / (usual_gap_ == 0 ? 1 : kGapMemory);
}

void ExpertPlanner::Ran(const BatchPlan& plan, const StepTimes& times) {
  now_ += times.seconds;
  const int64_t bytes = costs_.Bytes(MaskOf(plan));
  model_.Observe(plan.rows(), bytes, times.seconds - times.stall);
  if (cache_) cache_->Close();
}

void ExpertPlanner::DidNotRun() {
  if (cache_) cache_->Close();
}

void ExpertPlanner::Loaded(int32_t unit, double seconds) {
  model_.ObserveLoad(costs_.units[unit].bytes, seconds);
  if (cache_) cache_->Loaded(unit);
}

void ExpertPlanner::LoadFailed(int32_t unit) {
  if (cache_) cache_->Failed(unit);
}

std::string ExpertPlanner::CheckInvariants() const {
  std::string broken = cache_ ? cache_->CheckInvariants() : "";
  return broken.empty() && host_ ? host_->CheckInvariants() : broken;
}

ExpertStats ExpertPlanner::stats() const {
  ExpertStats stats;
  stats.batching = batching_;
  stats.expected_gain = gain_;
  stats.stickiness = stickiness_;
  stats.cost = model_.cost();
  stats.has_cache = cache_.has_value();
  if (!cache_) return stats;
  stats.cache = cache_->stats();
  for (int32_t i = 0; i < kShadowPolicies; ++i) {
    stats.shadow_hit_ratio[i] = shadows_->HitRatio(static_cast<ShadowPolicy>(i));
  }
  stats.floor_hit_ratio = shadows_->floor();
  return stats;
}

}  // namespace pregate
