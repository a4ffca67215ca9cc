#include "engine/plan/expert_cache.h"

#include <algorithm>
#include <cassert>
#include <tuple>
#include <utility>

namespace pregate {
namespace {

// Rows that a prefetched unit must be expected to serve for each of those that what gives way would
// have served: a load takes the lane, and expectations are no promises.
constexpr double kPrefetchOverLoss = 2;

}  // namespace

ExpertCache::ExpertCache(std::vector<Unit> units, int64_t capacity, ExpertEviction eviction,
                         uint64_t seed)
    : capacity_(capacity), eviction_(eviction), random_(seed) {
  for (const Unit& unit : units) {
    units_.push_back({.bytes = unit.bytes,
                      .pinned = unit.pinned,
                      .state = unit.pinned ? State::kResident : State::kAbsent});
    if (unit.pinned) stats_.resident_bytes += unit.bytes;
  }
  assert(stats_.resident_bytes <= capacity);
}

void ExpertCache::Open(const std::vector<int32_t>& units, const std::vector<double>& expected,
                       BatchPlan* plan) {
  ++plan_number_;
  int64_t missing = 0;
  for (int32_t unit : units) {
    Use(unit);
    if (state(unit) == State::kAbsent) missing += units_[unit].bytes;
  }
  std::vector<int32_t> victims;
  const bool fits = Victims(missing, expected, &victims);
  assert(fits);
  static_cast<void>(fits);
  for (int32_t victim : victims) Evict(victim, plan);
  for (int32_t unit : units) {
    if (state(unit) == State::kAbsent) StartLoad(unit, LoadCause::kKnown, &plan->loads_now);
    Entry& entry = units_[unit];
    if (!entry.pinned && !std::exchange(entry.used, true)) {
      const int64_t ahead = plan_number_ - entry.loaded_at;
      ++stats_.lookahead[std::min<int64_t>(ahead, ExpertCacheStats::kLookaheads - 1)];
      stats_.lookahead_steps += ahead;
    }
  }
}

// The running plan needs a unit: counts how it was found.
void ExpertCache::Use(int32_t unit) {
  Entry& entry = units_[unit];
  assert(entry.needed != plan_number_);
  entry.needed = plan_number_;
  ++entry.uses;
  if (entry.pinned) return;
  stats_.hits += entry.state == State::kResident;
  stats_.late += entry.state == State::kLoading;
  stats_.misses += entry.state == State::kAbsent;
}

bool ExpertCache::Prefetch(const std::vector<int32_t>& units, double worth, LoadCause cause,
                           const std::vector<double>& expected, BatchPlan* plan) {
  int64_t missing = 0;
  for (int32_t unit : units) missing += state(unit) == State::kAbsent ? units_[unit].bytes : 0;
  if (missing == 0) return false;
  // Those of its units that are there already must not give way for the rest.
  std::vector<double> kept = expected;
  for (int32_t unit : units) kept[unit] += worth;
  std::vector<int32_t> victims;
  if (!Victims(missing, kept, &victims)) return false;
  double loss = 0;
  for (int32_t victim : victims) loss += kept[victim];
  if (kPrefetchOverLoss * loss >= worth && !victims.empty()) return false;
  for (int32_t victim : victims) Evict(victim, plan);
  for (int32_t unit : units) {
    if (state(unit) == State::kAbsent) StartLoad(unit, cause, &plan->loads_next);
  }
  return true;
}

bool ExpertCache::Demand(int32_t unit, const std::vector<double>& expected, BatchPlan* plan) {
  if (needed(unit)) return true;
  const bool absent = state(unit) == State::kAbsent;
  std::vector<int32_t> victims;
  if (absent && !Victims(units_[unit].bytes, expected, &victims)) return false;
  Use(unit);
  for (int32_t victim : victims) Evict(victim, plan);
  if (absent) StartLoad(unit, LoadCause::kDemand, &plan->loads_now);
  units_[unit].used = true;
  return true;
}

void ExpertCache::StartLoad(int32_t unit, LoadCause cause, std::vector<int32_t>* list) {
  Entry& entry = units_[unit];
  entry.state = State::kLoading;
  entry.cause = cause;
  entry.used = false;
  entry.loaded_at = plan_number_;
  ++loading_;
  ++stats_.loads[static_cast<int32_t>(cause)];
  stats_.load_bytes[static_cast<int32_t>(cause)] += entry.bytes;
  stats_.resident_bytes += entry.bytes;
  list->push_back(unit);
}

void ExpertCache::Loaded(int32_t unit) {
  if (state(unit) != State::kLoading) return;
  units_[unit].state = State::kResident;
  --loading_;
}

void ExpertCache::Failed(int32_t unit) {
  if (state(unit) != State::kLoading) return;
  units_[unit].state = State::kAbsent;
  units_[unit].needed = -1;
  --loading_;
  stats_.resident_bytes -= units_[unit].bytes;
  ++stats_.failed_loads;
}

void ExpertCache::Close() {
  for (int32_t unit = 0; unit < static_cast<int32_t>(units_.size()); ++unit) {
    if (needed(unit)) Loaded(unit);
  }
  ++plan_number_;  // nothing is needed any more
}

void ExpertCache::Evict(int32_t unit, BatchPlan* plan) {
  Entry& entry = units_[unit];
  assert(entry.state == State::kResident && !entry.pinned && !needed(unit));
  entry.state = State::kAbsent;
  stats_.resident_bytes -= entry.bytes;
  if (!entry.used) stats_.wasted_bytes[static_cast<int32_t>(entry.cause)] += entry.bytes;
  plan->evicted_units.push_back(unit);
}

bool ExpertCache::Victims(int64_t bytes, const std::vector<double>& expected,
                          std::vector<int32_t>* victims) {
  int64_t room = capacity_ - stats_.resident_bytes;
  if (room >= bytes) return true;
  std::vector<std::tuple<bool, double, int32_t>> candidates;
  for (int32_t unit = 0; unit < static_cast<int32_t>(units_.size()); ++unit) {
    const Entry& entry = units_[unit];
    if (entry.state != State::kResident || entry.pinned || needed(unit)) continue;
    candidates.emplace_back(expected[unit] >= kPromised, Keep(unit, expected), unit);
  }
  std::sort(candidates.begin(), candidates.end());
  for (const auto& [promised, keep, unit] : candidates) {
    if (room >= bytes) break;
    victims->push_back(unit);
    room += units_[unit].bytes;
  }
  return room >= bytes;
}

// Who has the least of it goes first.
double ExpertCache::Keep(int32_t unit, const std::vector<double>& expected) {
  switch (eviction_) {
    case ExpertEviction::kPlanned:
      return expected[unit];
    case ExpertEviction::kLru:
      return static_cast<double>(units_[unit].needed);
    case ExpertEviction::kLfu:
      return static_cast<double>(units_[unit].uses);
    case ExpertEviction::kRandom:
      random_ = random_ * 6364136223846793005 + 1442695040888963407;
      return static_cast<double>(random_ >> 33);
  }
  return 0;
}

std::string ExpertCache::CheckInvariants() const {
  int64_t bytes = 0;
  int32_t loading = 0;
  for (const Entry& entry : units_) {
    if (entry.state != State::kAbsent) bytes += entry.bytes;
    loading += entry.state == State::kLoading;
    if (entry.pinned && entry.state != State::kResident) return "experts: a pinned unit is gone";
    if (entry.needed == plan_number_ && entry.state == State::kAbsent) {
      return "experts: the running plan needs a unit that is absent";
    }
  }
  if (bytes != stats_.resident_bytes) return "experts: resident bytes are miscounted";
  if (bytes > capacity_) return "experts: over capacity";
  if (loading != loading_) return "experts: loads are miscounted";
  return "";
}

}  // namespace pregate
