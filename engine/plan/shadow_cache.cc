#include "engine/plan/shadow_cache.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>
#include <utility>

namespace pregate {
namespace {

// Makes `unit` resident in the place of those that `keep` values least, and says how many bytes are
// used then.
template <typename Keep>
int64_t Admit(int32_t unit, const std::vector<int64_t>& bytes, int64_t capacity, int64_t used,
              std::vector<bool>* resident, const Keep& keep) {
  while (used + bytes[unit] > capacity) {
    int32_t victim = -1;
    double least = std::numeric_limits<double>::infinity();
    for (int32_t i = 0; i < static_cast<int32_t>(bytes.size()); ++i) {
      if (!(*resident)[i]) continue;
      if (const double value = keep(i); victim < 0 || value < least) {
        victim = i;
        least = value;
      }
    }
    assert(victim >= 0);
    (*resident)[victim] = false;
    used -= bytes[victim];
  }
  (*resident)[unit] = true;
  return used + bytes[unit];
}

// The units of a step, those that are resident first.
std::pair<std::vector<int32_t>, int64_t> ResidentFirst(std::vector<int32_t> units,
                                                       const std::vector<bool>& resident) {
  const auto absent = std::stable_partition(units.begin(), units.end(),
                                            [&](int32_t unit) { return resident[unit]; });
  const int64_t hits = absent - units.begin();
  return {std::move(units), hits};
}

}  // namespace

int64_t BeladyHits(const std::vector<std::vector<int32_t>>& trace,
                   const std::vector<int64_t>& bytes, int64_t capacity,
                   std::vector<bool>* resident) {
  // next_use[i][j]: step that needs trace[i][j] again.
  constexpr int32_t kNever = std::numeric_limits<int32_t>::max();
  std::vector<int32_t> next(bytes.size(), kNever);
  std::vector<std::vector<int32_t>> next_use(trace.size());
  for (int32_t i = static_cast<int32_t>(trace.size()) - 1; i >= 0; --i) {
    for (int32_t unit : trace[i]) next_use[i].push_back(next[unit]);
    for (int32_t unit : trace[i]) next[unit] = i;
  }
  int64_t used = 0, hits = 0;
  for (size_t unit = 0; unit < bytes.size(); ++unit) used += (*resident)[unit] ? bytes[unit] : 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    for (size_t j = 0; j < trace[i].size(); ++j) next[trace[i][j]] = next_use[i][j];
    auto [order, step_hits] = ResidentFirst(trace[i], *resident);
    hits += step_hits;
    // The last one to come stays for sure: it should be the one that is needed again first.
    std::stable_sort(order.begin() + step_hits, order.end(),
                     [&](int32_t a, int32_t b) { return next[a] > next[b]; });
    for (size_t j = static_cast<size_t>(step_hits); j < order.size(); ++j) {
      used = Admit(order[j], bytes, capacity, used, resident,
                   [&](int32_t unit) { return -static_cast<double>(next[unit]); });
    }
  }
  return hits;
}

ShadowCaches::ShadowCaches(std::vector<int64_t> bytes, int64_t capacity, uint64_t seed)
    : bytes_(std::move(bytes)),
      capacity_(capacity),
      random_(seed),
      last_used_(bytes_.size()),
      uses_(bytes_.size()),
      belady_(bytes_.size()) {
  for (Cache& cache : online_) cache.resident.resize(bytes_.size());
}

void ShadowCaches::Observe(const std::vector<int32_t>& units) {
  ++steps_;
  accesses_ += static_cast<int64_t>(units.size());
  for (int32_t unit : units) {
    last_used_[unit] = steps_;
    ++uses_[unit];
  }
  for (int32_t policy = 0; policy < static_cast<int32_t>(online_.size()); ++policy) {
    Access(static_cast<ShadowPolicy>(policy), units);
  }
  window_.push_back(units);
  if (static_cast<int32_t>(window_.size()) < kWindow) return;
  belady_hits_ += BeladyHits(window_, bytes_, capacity_, &belady_);
  window_.clear();
}

void ShadowCaches::Access(ShadowPolicy policy, const std::vector<int32_t>& units) {
  Cache& cache = online_[static_cast<size_t>(policy)];
  const auto [order, hits] = ResidentFirst(units, cache.resident);
  cache.hits += hits;
  for (size_t i = 0; i < order.size(); ++i) {
    if (static_cast<int64_t>(i) >= hits) {
      cache.used = Admit(order[i], bytes_, capacity_, cache.used, &cache.resident,
                         [&](int32_t unit) { return Keep(policy, unit); });
    }
  }
}

double ShadowCaches::Keep(ShadowPolicy policy, int32_t unit) {
  switch (policy) {
    case ShadowPolicy::kLru:
      return static_cast<double>(last_used_[unit]);
    case ShadowPolicy::kLfu:
      return static_cast<double>(uses_[unit]);
    case ShadowPolicy::kRandom:
    case ShadowPolicy::kStatic:
    case ShadowPolicy::kBeladyOffline:
      break;
  }
  random_ = random_ * 6364136223846793005 + 1442695040888963407;
  return static_cast<double>(random_ >> 33);
}

double ShadowCaches::HitRatio(ShadowPolicy policy) const {
  if (accesses_ == 0) return 0;
  int64_t hits = 0;
  if (policy == ShadowPolicy::kStatic) {
    std::vector<int32_t> order(bytes_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [this](int32_t a, int32_t b) {
      return uses_[a] * bytes_[b] > uses_[b] * bytes_[a];
    });
    int64_t room = capacity_;
    for (int32_t unit : order) {
      if (bytes_[unit] > room) continue;
      room -= bytes_[unit];
      hits += uses_[unit];
    }
  } else if (policy == ShadowPolicy::kBeladyOffline) {
    if (counted_accesses_ != accesses_) {
      std::vector<bool> resident = belady_;
      counted_hits_ = belady_hits_ + BeladyHits(window_, bytes_, capacity_, &resident);
      counted_accesses_ = accesses_;
    }
    hits = counted_hits_;
  } else {
    hits = online_[static_cast<size_t>(policy)].hits;
  }
  return static_cast<double>(hits) / static_cast<double>(accesses_);
}

double ShadowCaches::floor() const {
  const int64_t all = std::accumulate(bytes_.begin(), bytes_.end(), int64_t{0});
  return all == 0 ? 1 : std::min(1.0, static_cast<double>(capacity_) / static_cast<double>(all));
}

}  // namespace pregate
