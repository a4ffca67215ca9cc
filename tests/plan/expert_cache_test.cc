#include "engine/plan/expert_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "engine/plan/expert_policy.h"
#include "engine/plan/shadow_cache.h"
#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using State = ExpertCache::State;

// Units of 10 bytes each; nothing is expected of any.
class ExpertCacheTest : public ::testing::Test {
 protected:
  static constexpr int32_t kLayers = 5;

  static ExpertCache Make(int32_t units, int64_t capacity,
                          ExpertEviction eviction = ExpertEviction::kPlanned) {
    return ExpertCache(std::vector<ExpertCache::Unit>(units, {.bytes = 10}), capacity, kLayers,
                       eviction, 1);
  }

  // A step that runs.
  static BatchPlan Step(ExpertCache& cache, const std::vector<int32_t>& units,
                        const std::vector<double>& expected) {
    BatchPlan plan;
    cache.Open(units, expected, &plan);
    EXPECT_EQ(cache.CheckInvariants(), "");
    cache.Close();
    EXPECT_EQ(cache.CheckInvariants(), "");
    return plan;
  }

  const std::vector<double> nothing_ = std::vector<double>(8);
};

TEST_F(ExpertCacheTest, LoadsWhatIsAbsentAndHitsItNextTime) {
  ExpertCache cache = Make(4, 20);
  EXPECT_THAT(Step(cache, {0, 1}, nothing_).loads_now, ElementsAre(0, 1));
  EXPECT_THAT(Step(cache, {1}, nothing_).loads_now, IsEmpty());
  EXPECT_EQ(cache.stats().misses, 2);
  EXPECT_EQ(cache.stats().hits, 1);
  EXPECT_EQ(cache.stats().load_bytes[0], 20);
}

TEST_F(ExpertCacheTest, EvictsWhatTheFewestRowsAreExpectedToNeed) {
  ExpertCache cache = Make(4, 30);
  Step(cache, {0, 1, 2}, nothing_);
  const BatchPlan plan = Step(cache, {3}, {5, 1, 4, 0});
  EXPECT_THAT(plan.evicted_units, ElementsAre(1));
  EXPECT_EQ(cache.state(1), State::kAbsent);
}

TEST_F(ExpertCacheTest, OtherEvictionsByUse) {
  for (const auto& [eviction, victim] :
       {std::pair{ExpertEviction::kLru, 0}, std::pair{ExpertEviction::kLfu, 1}}) {
    ExpertCache cache = Make(3, 20, eviction);
    Step(cache, {0}, nothing_);
    Step(cache, {0}, nothing_);
    Step(cache, {1}, nothing_);
    EXPECT_THAT(Step(cache, {2}, nothing_).evicted_units, ElementsAre(victim));
  }
}

TEST_F(ExpertCacheTest, APinnedUnitIsThereFromTheStartAndStays) {
  ExpertCache cache({{10, true}, {10}, {10}}, 20, kLayers, ExpertEviction::kPlanned, 1);
  EXPECT_EQ(cache.state(0), State::kResident);
  Step(cache, {1}, nothing_);
  EXPECT_THAT(Step(cache, {2}, {0, 9, 9}).evicted_units, ElementsAre(1));
  EXPECT_EQ(cache.state(0), State::kResident);
  Step(cache, {0, 2}, nothing_);
  EXPECT_EQ(cache.stats().hits, 1);  // the pinned one is not counted
}

TEST_F(ExpertCacheTest, ALoadOnItsWayIsSharedAndLate) {
  ExpertCache cache = Make(3, 30);
  BatchPlan first;
  cache.Open({0}, nothing_, &first);
  EXPECT_TRUE(cache.Prefetch({1}, 1, LoadCause::kKnown, nothing_, &first));
  EXPECT_THAT(first.loads_next, ElementsAre(1));
  cache.Close();
  EXPECT_EQ(cache.state(0), State::kResident);  // the step has waited for it
  EXPECT_EQ(cache.state(1), State::kLoading);
  EXPECT_THAT(Step(cache, {1}, nothing_).loads_now, IsEmpty());
  EXPECT_EQ(cache.stats().late, 1);
  EXPECT_EQ(cache.stats().loads[0], 2);
  // Begun in the step itself, and (Close counts as one more) before the next.
  EXPECT_EQ(cache.stats().lookahead[0], 1);
}

TEST_F(ExpertCacheTest, PrefetchTakesNothingOfMoreWorthAndNothingInUse) {
  ExpertCache cache = Make(3, 20);
  Step(cache, {0, 1}, nothing_);
  BatchPlan plan;
  cache.Open({0}, {9, 2, 0}, &plan);
  EXPECT_FALSE(cache.Prefetch({2}, 4, LoadCause::kKnown, {9, 2, 0}, &plan));
  EXPECT_TRUE(cache.Prefetch({2}, 5, LoadCause::kKnown, {9, 2, 0}, &plan));
  EXPECT_THAT(plan.evicted_units, ElementsAre(1));
  // Now all is in use or on its way.
  EXPECT_FALSE(cache.Prefetch({1}, 100, LoadCause::kKnown, nothing_, &plan));
}

TEST_F(ExpertCacheTest, AFailedLoadIsNotThere) {
  ExpertCache cache = Make(2, 20);
  BatchPlan plan;
  cache.Open({0}, nothing_, &plan);
  cache.Failed(0);
  cache.Close();
  EXPECT_EQ(cache.state(0), State::kAbsent);
  EXPECT_EQ(cache.stats().failed_loads, 1);
  EXPECT_EQ(cache.CheckInvariants(), "");
  EXPECT_THAT(Step(cache, {0}, nothing_).loads_now, ElementsAre(0));
}

TEST_F(ExpertCacheTest, WhatIsEvictedUnusedIsWasted) {
  ExpertCache cache = Make(3, 20);
  BatchPlan plan;
  cache.Open({0}, nothing_, &plan);
  cache.Prefetch({1}, 1, LoadCause::kGuessed, nothing_, &plan);
  cache.Close();
  cache.Loaded(1);
  Step(cache, {2}, {1, 0, 0});
  EXPECT_EQ(cache.stats().wasted_bytes[static_cast<int32_t>(LoadCause::kGuessed)], 10);
  EXPECT_EQ(cache.stats().wasted_bytes[static_cast<int32_t>(LoadCause::kKnown)], 0);
}

TEST_F(ExpertCacheTest, ALayersDemandJoinsThePlan) {
  ExpertCache cache = Make(3, 20);
  BatchPlan plan;
  cache.Open({0}, nothing_, &plan);
  EXPECT_TRUE(cache.Demand(1, nothing_, &plan));
  EXPECT_TRUE(cache.Demand(1, nothing_, &plan));   // once
  EXPECT_FALSE(cache.Demand(2, nothing_, &plan));  // no room beside what the plan needs
  EXPECT_THAT(plan.loads_now, ElementsAre(0, 1));
  EXPECT_EQ(cache.stats().loads[static_cast<int32_t>(LoadCause::kDemand)], 1);
  EXPECT_EQ(cache.CheckInvariants(), "");
}

TEST_F(ExpertCacheTest, WhatDoesNotFitPassesThrough) {
  ExpertCache cache = Make(6, 30);
  Step(cache, {0, 1, 2}, nothing_);
  // Three absent units take two fifths of 30 bytes: one of those needed has to go, and is streamed
  // as well. Room for 10 bytes is left, of 8 a layer; nothing more can stay.
  const std::vector<double> expected = {3, 1, 2, 0, 0, 0};
  BatchPlan plan = Step(cache, {0, 1, 2, 3, 4, 5}, expected);
  EXPECT_THAT(plan.evicted_units, ElementsAre(1, 2));
  EXPECT_THAT(plan.streamed_units, ElementsAre(2, 1, 3, 4, 5));
  EXPECT_THAT(plan.loads_now, IsEmpty());
  EXPECT_EQ(plan.stream_layers, 2);
  EXPECT_EQ(cache.stats().hits, 1);
  EXPECT_EQ(cache.state(0), State::kResident);
  EXPECT_EQ(cache.state(1), State::kAbsent);
  // Then there is room for one to stay.
  plan = Step(cache, {0, 1, 2, 3}, expected);
  EXPECT_THAT(plan.loads_now, ElementsAre(2));
  EXPECT_THAT(plan.streamed_units, ElementsAre(1, 3));
}

TEST_F(ExpertCacheTest, WhatIsNotNeededGivesWayBeforeAStreamDoes) {
  ExpertCache cache = Make(6, 30);
  Step(cache, {0, 1, 2}, nothing_);
  const BatchPlan plan = Step(cache, {2, 3, 4, 5}, {9, 1, 0, 0, 0, 0});
  EXPECT_THAT(plan.evicted_units, ElementsAre(1, 0));
  EXPECT_EQ(cache.state(2), State::kResident);
}

TEST_F(ExpertCacheTest, APromisedUnitStays) {
  ExpertCache cache = Make(3, 20);
  Step(cache, {0, 1}, nothing_);
  const std::vector<double> expected = {ExpertCache::kPromised, 5, 0};
  EXPECT_THAT(Step(cache, {1, 2}, expected).evicted_units, ElementsAre(1));
  EXPECT_EQ(cache.state(0), State::kResident);
}

// Random plans, prefetches, failures: what a plan needs is there or streamed, nothing is over
// capacity.
TEST_F(ExpertCacheTest, NeverOverCapacityAndNothingInUseIsEvicted) {
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    SimRandom random(seed);
    std::vector<ExpertCache::Unit> units(random.Draw(2, 8));
    for (ExpertCache::Unit& unit : units) unit.bytes = random.Draw(1, 20);
    const int64_t capacity = random.Draw(40, 60);
    ExpertCache cache(units, capacity, kLayers, static_cast<ExpertEviction>(random.Draw(0, 3)),
                      seed);
    std::vector<int32_t> on_their_way;
    for (int32_t step = 0; step < 100; ++step) {
      std::vector<double> expected(units.size());
      for (double& rows : expected) rows = random.Draw(0, 9);
      int64_t bytes = 0;
      for (int32_t unit : on_their_way) bytes += units[unit].bytes;
      std::vector<int32_t> needed;
      for (int32_t unit = 0; unit < std::ssize(units); ++unit) {
        const bool loading = cache.state(unit) == State::kLoading;
        const int64_t least = loading ? 0 : StreamBytes(units[unit].bytes, kLayers, 2);
        if (random.OneIn(2) || bytes + least > capacity) continue;
        needed.push_back(unit);
        bytes += least;
      }
      BatchPlan plan;
      cache.Open(needed, expected, &plan);
      if (on_their_way.empty() && random.OneIn(2)) {
        cache.Prefetch({random.Draw(0, static_cast<int32_t>(units.size()) - 1)}, 100,
                       LoadCause::kKnown, expected, &plan);
      }
      ASSERT_EQ(cache.CheckInvariants(), "") << "seed " << seed;
      const auto streamed = [&plan](int32_t unit) {
        return std::count(plan.streamed_units.begin(), plan.streamed_units.end(), unit) == 1;
      };
      for (int32_t unit : needed) {
        ASSERT_EQ(cache.state(unit) == State::kAbsent, streamed(unit));
      }
      for (int32_t unit : plan.evicted_units) {
        ASSERT_TRUE(streamed(unit) || std::count(needed.begin(), needed.end(), unit) == 0);
      }
      cache.Close();
      on_their_way.insert(on_their_way.end(), plan.loads_next.begin(), plan.loads_next.end());
      std::erase_if(on_their_way, [&](int32_t unit) {
        if (cache.state(unit) != State::kLoading) return true;
        if (!random.OneIn(2)) return false;
        random.OneIn(4) ? cache.Failed(unit) : cache.Loaded(unit);
        return true;
      });
      ASSERT_EQ(cache.CheckInvariants(), "") << "seed " << seed;
    }
  }
}

// --- Shadows ---

// The most hits that any evictions can have from `step` on, one access a step: all are tried.
int64_t BestHits(const std::vector<std::vector<int32_t>>& trace, int32_t capacity, size_t step = 0,
                 uint32_t resident = 0) {
  if (step == trace.size()) return 0;
  const uint32_t unit = uint32_t{1} << trace[step][0];
  if ((resident & unit) != 0) return 1 + BestHits(trace, capacity, step + 1, resident);
  if (std::popcount(resident) < capacity) {
    return BestHits(trace, capacity, step + 1, resident | unit);
  }
  int64_t most = 0;
  for (uint32_t left = resident; left != 0; left &= left - 1) {
    const uint32_t kept = resident & ~(left & -left);
    most = std::max(most, BestHits(trace, capacity, step + 1, kept | unit));
  }
  return most;
}

std::vector<std::vector<int32_t>> DrawTrace(SimRandom& random, int32_t units, int32_t steps) {
  std::vector<std::vector<int32_t>> trace(steps);
  for (std::vector<int32_t>& step : trace) {
    for (int32_t unit = 0; unit < units; ++unit) {
      if (random.OneIn(3)) step.push_back(unit);
    }
  }
  return trace;
}

TEST(ShadowCachesTest, BeladyIsOptimal) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SimRandom random(seed);
    const int32_t units = random.Draw(3, 5), capacity = random.Draw(1, units - 1);
    std::vector<std::vector<int32_t>> trace;
    for (int32_t i = 0; i < 12; ++i) trace.push_back({random.Draw(0, units - 1)});
    std::vector<bool> resident(units);
    ASSERT_EQ(BeladyHits(trace, std::vector<int64_t>(units, 1), capacity, &resident),
              BestHits(trace, capacity))
        << "seed " << seed;
  }
}

TEST(ShadowCachesTest, NobodyBeatsBelady) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SimRandom random(seed);
    const int32_t units = random.Draw(3, 9), capacity = random.Draw(1, units - 1);
    ShadowCaches shadows(std::vector<int64_t>(units, 5), 5 * capacity, seed);
    for (const auto& step : DrawTrace(random, units, 900)) shadows.Observe(step);
    const double best = shadows.HitRatio(ShadowPolicy::kBeladyOffline);
    for (const ShadowPolicy policy :
         {ShadowPolicy::kRandom, ShadowPolicy::kLru, ShadowPolicy::kLfu}) {
      EXPECT_LE(shadows.HitRatio(policy), best);
    }
    // Accesses by chance: nobody who sees no future can be far from the floor.
    EXPECT_NEAR(shadows.HitRatio(ShadowPolicy::kLru), shadows.floor(), 0.12);
    EXPECT_NEAR(shadows.HitRatio(ShadowPolicy::kRandom), shadows.floor(), 0.12);
  }
}

TEST(ShadowCachesTest, EachPolicyByHand) {
  ShadowCaches shadows({1, 1, 1}, 2, 1);
  for (int32_t unit : {0, 0, 1, 2, 0, 2}) shadows.Observe({unit});
  // lru: 2 takes the place of 0, 0 that of 1; lfu and static keep 0; Belady lets 1 go.
  EXPECT_DOUBLE_EQ(shadows.HitRatio(ShadowPolicy::kLru), 2.0 / 6);
  EXPECT_DOUBLE_EQ(shadows.HitRatio(ShadowPolicy::kLfu), 3.0 / 6);
  EXPECT_DOUBLE_EQ(shadows.HitRatio(ShadowPolicy::kStatic), 5.0 / 6);
  EXPECT_DOUBLE_EQ(shadows.HitRatio(ShadowPolicy::kBeladyOffline), 3.0 / 6);
  EXPECT_DOUBLE_EQ(shadows.floor(), 2.0 / 3);
}

TEST(ShadowCachesTest, BeladyGoesOnAcrossWindows) {
  ShadowCaches shadows({1, 1}, 2, 1);
  for (int32_t i = 0; i < 2 * ShadowCaches::kWindow + 10; ++i) shadows.Observe({i % 2});
  const double accesses = 2 * ShadowCaches::kWindow + 10;
  EXPECT_DOUBLE_EQ(shadows.HitRatio(ShadowPolicy::kBeladyOffline), (accesses - 2) / accesses);
}

}  // namespace
}  // namespace pregate
