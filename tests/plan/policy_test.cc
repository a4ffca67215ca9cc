// Who goes first: the orders that policy.h promises, pair by pair.
#include "engine/plan/policy.h"

#include <gtest/gtest.h>

#include <vector>

namespace pregate {
namespace {

constexpr int32_t kWaitStepsMax = 10;

TEST(PolicyTest, FcfsLooksAtArrivalAlone) {
  const Candidate early = {.priority = 9, .arrival = 1, .plans_waited = 0};
  const Candidate late = {.priority = 0, .arrival = 2, .plans_waited = 99};
  EXPECT_TRUE(GoesBefore(SchedulingPolicy::kFcfs, kWaitStepsMax, early, late));
  EXPECT_FALSE(GoesBefore(SchedulingPolicy::kFcfs, kWaitStepsMax, late, early));
}

TEST(PolicyTest, PriorityTable) {
  struct Case {
    const char* name;
    Candidate first, second;
  };
  const Case cases[] = {
      {"the lower priority value", {0, 5, 0}, {1, 1, 0}},
      {"negative values too", {-3, 5, 0}, {0, 1, 0}},
      {"arrival among equals", {1, 1, 0}, {1, 2, 0}},
      {"waiting counts for nothing before its time", {0, 5, 0}, {1, 1, 9}},
      {"who has waited long enough", {5, 5, 10}, {0, 1, 9}},
      {"arrival among those, whatever their priority", {5, 1, 10}, {0, 2, 99}},
  };
  for (const Case& c : cases) {
    EXPECT_TRUE(GoesBefore(SchedulingPolicy::kPriority, kWaitStepsMax, c.first, c.second))
        << c.name;
    EXPECT_FALSE(GoesBefore(SchedulingPolicy::kPriority, kWaitStepsMax, c.second, c.first))
        << c.name;
  }
}

TEST(PolicyTest, IsAStrictTotalOrder) {
  std::vector<Candidate> all;
  for (int32_t priority : {-1, 0, 1}) {
    for (int64_t waited : {0, 9, 10, 11}) {
      all.push_back({priority, static_cast<int64_t>(all.size() * 7 % 12), waited});
    }
  }
  for (const SchedulingPolicy policy : {SchedulingPolicy::kFcfs, SchedulingPolicy::kPriority}) {
    const auto before = [policy](const Candidate& a, const Candidate& b) {
      return GoesBefore(policy, kWaitStepsMax, a, b);
    };
    for (const Candidate& a : all) {
      EXPECT_FALSE(before(a, a));
      for (const Candidate& b : all) {
        EXPECT_EQ(before(a, b) + before(b, a), a.arrival != b.arrival);
        for (const Candidate& c : all) {
          EXPECT_TRUE(!before(a, b) || !before(b, c) || before(a, c));
        }
      }
    }
  }
}

}  // namespace
}  // namespace pregate
