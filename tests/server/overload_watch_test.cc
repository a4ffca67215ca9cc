#include "server/generation/overload_watch.h"

#include <gtest/gtest.h>

namespace pregate {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);

class OverloadWatchTest : public ::testing::Test {
 protected:
  // A second later, in which so many have been refused.
  bool Second(int64_t refused, int32_t waiting) {
    now_ += absl::Seconds(1);
    refused_ += refused;
    return watch_.Overloaded(refused_, waiting, now_);
  }

  // Refusals until it says so; the seconds that it took.
  int Overload() {
    int seconds = 1;
    while (!Second(1, 100)) ++seconds;
    return seconds;
  }

  OverloadWatch watch_{kPatience};
  absl::Time now_ = absl::FromUnixSeconds(1'800'000'000);
  int64_t refused_ = 0;
};

TEST_F(OverloadWatchTest, ALongQueueThatRefusesNobodyIsNone) {
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(Second(0, 1000));
}

TEST_F(OverloadWatchTest, ABurstIsNone) {
  for (int burst = 0; burst < 10; ++burst) {
    for (int i = 0; i < 9; ++i) EXPECT_FALSE(Second(50, 100));
    for (int i = 0; i < 4; ++i) EXPECT_FALSE(Second(0, 100));  // longer than kPause
  }
}

TEST_F(OverloadWatchTest, RefusalsForAsLongAsItsPatienceAre) {
  EXPECT_EQ(Overload(), 11);  // the first of them, and ten seconds
}

TEST_F(OverloadWatchTest, ShortPausesDoNotEndIt) {
  int seconds = 0;
  for (bool overloaded = false; !overloaded; ++seconds) {
    ASSERT_LT(seconds, 20);
    overloaded = Second(seconds % 3 == 0, 100);
  }
  EXPECT_EQ(seconds, 13);  // at the first refusal that is ten seconds after the first
}

TEST_F(OverloadWatchTest, ItEndsWhenHalfOfTheQueueIsGoneAndNobodyIsRefused) {
  Overload();
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(Second(0, 51));  // too long a queue
  EXPECT_TRUE(Second(1, 50));                               // a refusal: who does not heed it
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Second(0, 50));
  EXPECT_FALSE(Second(0, 50));
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(Second(0, 100));  // and does not come back by itself
  EXPECT_EQ(Overload(), 11);
}

TEST_F(OverloadWatchTest, AQueueThatWasSeenEmptyOnlyEndsItToo) {
  while (!Second(1, 0)) continue;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Second(0, 0));
  EXPECT_FALSE(Second(0, 0));
}

TEST(OverloadWatchOffTest, NoPatienceIsNever) {
  OverloadWatch watch(absl::ZeroDuration());
  absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(watch.Overloaded(i, 1000, now += absl::Seconds(1)));
  }
}

}  // namespace
}  // namespace pregate
