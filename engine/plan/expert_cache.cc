#include "engine/plan/expert_cache.h"

#include <algorithm>
#include <cassert>
#include <tuple>
#include <utility>

#include "engine/plan/expert_policy.h"

namespace pregate {
namespace {

// Rows that a prefetched unit must be expected to serve for each of those that what gives way would
// have served: a load takes the lane, and expectations are no promises.
constexpr double kPrefetchOverLoss = 2;

}  // namespace

ExpertCache::ExpertCache(std::vector<Unit> units, int64_t capacity, int32_t layers,
                         ExpertEviction eviction, uint64_t seed)
    : capacity_(capacity), layers_(layers), eviction_(eviction), random_(seed) {
  for (const Unit& unit : units) {
    units_.push_back({.bytes = unit.bytes,
                      .pinned = unit.pinned,
                      .state = unit.pinned ? State::kResident : State::kAbsent});
    if (unit.pinned) stats_.resident_bytes += unit.bytes;
  }
  assert(stats_.resident_bytes <= capacity && layers >= 1);
}

void ExpertCache::Open(const std::vector<int32_t>& units, const std::vector<double>& expected,
                       BatchPlan* plan) {
  ++plan_number_;
  for (int32_t unit : units) {
    assert(!needed(unit));
    units_[unit].needed = plan_number_;
    ++units_[unit].uses;
  }
  std::vector<int32_t> absent = MakeRoom(units, expected, plan);
  for (int32_t unit : units) Count(unit);
  LoadSome(&absent, expected, plan);
  if (!absent.empty()) Stream(absent, plan);
  for (int32_t unit : units) {
    Entry& entry = units_[unit];
    if (!entry.pinned && !std::exchange(entry.used, true)) {
      const int64_t ahead = plan_number_ - entry.loaded_at;
      ++stats_.lookahead[std::min<int64_t>(ahead, ExpertCacheStats::kLookaheads - 1)];
      stats_.lookahead_steps += ahead;
    }
  }
}

// Evicts for those of `units` that are absent: what the plan does not need, as long as they fit
// then, else whatever it takes to stream them. Returns those that are absent now.
std::vector<int32_t> ExpertCache::MakeRoom(const std::vector<int32_t>& units,
                                           const std::vector<double>& expected, BatchPlan* plan) {
  std::vector<int32_t> absent;
  int64_t missing = 0;
  for (int32_t unit : units) {
    if (state(unit) != State::kAbsent) continue;
    absent.push_back(unit);
    missing += units_[unit].bytes;
  }
  std::vector<int32_t> victims;
  if (Victims(missing, expected, &victims)) {
    for (int32_t victim : victims) Evict(victim, plan);
    return absent;
  }
  for (int32_t victim : Evictable(expected)) {
    if (room() >= BytesInWindow(absent, kLeastStreamLayers)) break;
    Evict(victim, plan);
    if (needed(victim)) absent.push_back(victim);
  }
  assert(room() >= BytesInWindow(absent, kLeastStreamLayers));
  return absent;
}

// The running plan needs a unit: counts how it was found.
void ExpertCache::Count(int32_t unit) {
  if (units_[unit].pinned) return;
  stats_.hits += state(unit) == State::kResident;
  stats_.late += state(unit) == State::kLoading;
  stats_.misses += state(unit) == State::kAbsent;
}

// Loads those that there is room for, all or else the most expected, and leaves the others. There
// is none for what has just been evicted.
void ExpertCache::LoadSome(std::vector<int32_t>* absent, const std::vector<double>& expected,
                           BatchPlan* plan) {
  int64_t missing = 0;
  for (int32_t unit : *absent) missing += units_[unit].bytes;
  if (missing > room()) {
    std::stable_sort(absent->begin(), absent->end(),
                     [&](int32_t a, int32_t b) { return expected[a] > expected[b]; });
  }
  while (!absent->empty()) {
    const int32_t unit = absent->front();
    const std::vector<int32_t> others(absent->begin() + 1, absent->end());
    const std::vector<int32_t>& evicted = plan->evicted_units;
    if (std::find(evicted.begin(), evicted.end(), unit) != evicted.end()) return;
    if (units_[unit].bytes + BytesInWindow(others, kLeastStreamLayers) > room()) return;
    StartLoad(unit, LoadCause::kKnown, &plan->loads_now);
    *absent = others;
  }
}

// The plan's units that do not stay: their pieces pass through the room that is left.
void ExpertCache::Stream(const std::vector<int32_t>& units, BatchPlan* plan) {
  for (int32_t unit : units) {
    units_[unit].streamed = plan_number_;
    CountLoad(unit, LoadCause::kKnown);
  }
  int32_t window = std::min(kLeastStreamLayers, layers_);
  while (window < layers_ && BytesInWindow(units, window + 1) <= room()) ++window;
  plan->streamed_units = units;
  plan->stream_layers = window;
  stream_bytes_ = BytesInWindow(units, window);
}

int64_t ExpertCache::BytesInWindow(const std::vector<int32_t>& units, int32_t window) const {
  int64_t bytes = 0;
  for (int32_t unit : units) bytes += StreamBytes(units_[unit].bytes, layers_, window);
  return bytes;
}

bool ExpertCache::Prefetch(const std::vector<int32_t>& units, double worth, LoadCause cause,
                           const std::vector<double>& expected, BatchPlan* plan) {
  int64_t missing = 0;
  for (int32_t unit : units) missing += state(unit) == State::kAbsent ? units_[unit].bytes : 0;
  if (missing == 0 || stream_bytes_ > 0) return false;
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
  units_[unit].needed = plan_number_;
  ++units_[unit].uses;
  Count(unit);
  for (int32_t victim : victims) Evict(victim, plan);
  if (absent) StartLoad(unit, LoadCause::kDemand, &plan->loads_now);
  units_[unit].used = true;
  return true;
}

void ExpertCache::StartLoad(int32_t unit, LoadCause cause, std::vector<int32_t>* list) {
  CountLoad(unit, cause);
  units_[unit].state = State::kLoading;
  ++loading_;
  stats_.resident_bytes += units_[unit].bytes;
  list->push_back(unit);
}

void ExpertCache::CountLoad(int32_t unit, LoadCause cause) {
  Entry& entry = units_[unit];
  entry.cause = cause;
  entry.used = false;
  entry.loaded_at = plan_number_;
  ++stats_.loads[static_cast<int32_t>(cause)];
  stats_.load_bytes[static_cast<int32_t>(cause)] += entry.bytes;
}

void ExpertCache::Loaded(int32_t unit) {
  if (state(unit) != State::kLoading) return;
  units_[unit].state = State::kResident;
  --loading_;
}

void ExpertCache::Failed(int32_t unit) {
  stats_.failed_loads += units_[unit].streamed == plan_number_;
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
  stream_bytes_ = 0;
  ++plan_number_;  // nothing is needed any more
}

void ExpertCache::Evict(int32_t unit, BatchPlan* plan) {
  Entry& entry = units_[unit];
  assert(entry.state == State::kResident && !entry.pinned);
  entry.state = State::kAbsent;
  stats_.resident_bytes -= entry.bytes;
  if (!entry.used) stats_.wasted_bytes[static_cast<int32_t>(entry.cause)] += entry.bytes;
  plan->evicted_units.push_back(unit);
}

bool ExpertCache::Victims(int64_t bytes, const std::vector<double>& expected,
                          std::vector<int32_t>* victims) {
  int64_t left = room();
  if (left >= bytes) return true;
  for (int32_t unit : Evictable(expected)) {
    if (left >= bytes || needed(unit)) break;
    victims->push_back(unit);
    left += units_[unit].bytes;
  }
  return left >= bytes;
}

std::vector<int32_t> ExpertCache::Evictable(const std::vector<double>& expected) {
  std::vector<std::tuple<bool, double, int32_t>> candidates;
  for (int32_t unit = 0; unit < static_cast<int32_t>(units_.size()); ++unit) {
    const Entry& entry = units_[unit];
    if (entry.state != State::kResident || entry.pinned || expected[unit] >= kPromised) continue;
    candidates.emplace_back(needed(unit), Keep(unit, expected), unit);
  }
  std::sort(candidates.begin(), candidates.end());
  std::vector<int32_t> units;
  for (const auto& [needed, keep, unit] : candidates) units.push_back(unit);
  return units;
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
    if (entry.needed == plan_number_ && entry.state == State::kAbsent &&
        entry.streamed != plan_number_) {
      return "experts: the running plan needs a unit that is absent";
    }
  }
  if (bytes != stats_.resident_bytes) return "experts: resident bytes are miscounted";
  if (bytes + stream_bytes_ > capacity_) return "experts: over capacity";
  if (loading != loading_) return "experts: loads are miscounted";
  return "";
}

}  // namespace pregate
