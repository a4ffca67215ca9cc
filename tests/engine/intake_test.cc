// What an engine takes in: bounds of its queue, drain, stop.
#include "engine/intake.h"

#include <gtest/gtest.h>

namespace pregate {
namespace {

TEST(Intake, TheQueueIsBoundedByRequestsAndByTokens) {
  Intake intake(/*max_requests=*/3, /*max_tokens=*/10);
  EXPECT_TRUE(intake.Take(2, 8, false).ok());
  EXPECT_EQ(intake.Take(2, 1, false),
            absl::ResourceExhaustedError("queue: must hold at most 3 requests; got 4"));
  EXPECT_EQ(intake.Take(1, 3, false),
            absl::ResourceExhaustedError("queue: must hold at most 10 prompt tokens; got 11"));
  EXPECT_EQ(intake.queued(), 2);  // nothing of what was refused
  EXPECT_EQ(intake.live(), 2);
  EXPECT_TRUE(intake.Take(1, 2, false).ok());
  EXPECT_FALSE(intake.Take(1, 0, false).ok());
}

TEST(Intake, WhoLeavesTheQueueMakesRoomAndLivesUntilItsEnd) {
  Intake intake(2, 10);
  EXPECT_TRUE(intake.idle());
  ASSERT_TRUE(intake.Take(2, 10, false).ok());
  intake.LeaveQueue(1, 4);
  EXPECT_EQ(intake.queued(), 1);
  EXPECT_EQ(intake.live(), 2);
  EXPECT_FALSE(intake.Take(1, 5, false).ok());
  EXPECT_TRUE(intake.Take(1, 4, false).ok());
  intake.LeaveQueue(2, 10);
  intake.End(2);
  EXPECT_FALSE(intake.idle());
  intake.End(1);
  EXPECT_TRUE(intake.idle());
  EXPECT_TRUE(intake.Take(2, 10, false).ok());
}

TEST(Intake, DrainTakesOnlyWhatContinuesACallAndStopTakesNothing) {
  const absl::Status refused = absl::UnavailableError("server: draining; try another replica");
  Intake intake(2, 10);
  intake.StartDrain();
  EXPECT_TRUE(intake.draining());
  EXPECT_EQ(intake.Take(5, 50, false), refused);  // before its bounds
  EXPECT_TRUE(intake.Take(1, 1, true).ok());
  EXPECT_EQ(intake.Take(5, 1, true).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(intake.stopping());
  intake.Stop();
  EXPECT_TRUE(intake.stopping());
  EXPECT_EQ(intake.Take(1, 1, true), refused);

  Intake stopped(2, 10);
  stopped.Stop();
  EXPECT_FALSE(stopped.draining());
  EXPECT_EQ(stopped.Take(1, 1, false), refused);
}

}  // namespace
}  // namespace pregate
