// The scheduler when there is too little for all, and when requests end before their time, as
// traces (plan_trace.h tells how to read them).
#include <gtest/gtest.h>

#include <string>

#include "engine/plan/scheduler.h"
#include "tests/plan/plan_trace.h"

namespace pregate {
namespace {

SchedulerConfig Config() {
  SchedulerConfig config = SmallConfig();
  config.enable_prefix_caching = false;
  return config;
}

void ExpectTrace(const SchedulerConfig& config, const std::string& table) {
  EXPECT_EQ(PlanTrace(config).Run(table), Tidy(table));
}

// --- Preemption ---

// Blocks of two, and too few of them for two answers.
SchedulerConfig Tight() {
  SchedulerConfig config = Config();
  config.block_tokens = 2;
  config.num_blocks = 4;
  return config;
}

TEST(SchedulerPreemptionTest, TheLastIsPreemptedAndComputedAgain) {
  SchedulerConfig config = Tight();
  ExpectTrace(config, R"(
    add 1: 10 max 6 |
    add 2: 20 max 6 |
    step 11 21      | +1:0* +2:0* => 1=11 2=21
    step 12 22      | 1:1* 2:1* => 1=12 2=22
    step 13 23      | 1:2* 2:2* => 1=13 2=23
    step 14 24      | 1:3* 2:3* => 1=14 2=24
    stats           | waiting 0/0 running 2 used 4 cached 0 hits 0/0 preempted 0
    step 15         | 1:4* => 1=15
    stats           | waiting 1/1 running 1 used 3 cached 0 hits 0/0 preempted 1
    step 16         | 1:5* => 1=16.length
    step 25         | ^2:0-4* => 2=25
    step 26         | 2:5* => 2=26.length
    stats           | waiting 0/0 running 0 used 0 cached 0 hits 0/0 preempted 1
  )");
}

TEST(SchedulerPreemptionTest, WhoFindsNoBlockAndNobodyBehindWaitsForHisTurn) {
  SchedulerConfig config = Tight();
  config.num_blocks = 5;
  ExpectTrace(config, R"(
    add 1: 10 max 6 |
    add 2: 20 max 6 |
    step            | +1:0* +2:0* => 1=7 2=7
    step            | 1:1* 2:1* => 1=7 2=7
    step            | 1:2* 2:2* => 1=7 2=7
    step            | 1:3* 2:3* => 1=7 2=7
    step            | 1:4* => 1=7
    step            | 1:5* => 1=7.length
    step            | 2:4* => 2=7
    step            | 2:5* => 2=7.length
  )");
}

TEST(SchedulerPreemptionTest, ThePrefixCacheSparesMostOfTheWork) {
  SchedulerConfig config = Tight();
  config.enable_prefix_caching = true;
  ExpectTrace(config, R"(
    add 1: 10 max 6 |
    add 2: 20 max 6 |
    step 11 21      | +1:0* +2:0* => 1=11 2=21
    step 12 22      | 1:1* 2:1* => 1=12 2=22
    step 13 23      | 1:2* 2:2* => 1=13 2=23
    step 14 24      | 1:3* 2:3* => 1=14 2=24
    step 15         | 1:4* => 1=15
    step 16         | 1:5* => 1=16.length
    step 25         | ^2(2):2-4* => 2=25
    stats           | waiting 0/0 running 1 used 3 cached 1 hits 2/7 preempted 1
  )");
}

TEST(SchedulerPreemptionTest, TheImportantTakeFromTheOthers) {
  SchedulerConfig config = Tight();
  config.policy = SchedulingPolicy::kPriority;
  ExpectTrace(config, R"(
    add 1: 10 max 6 priority 1 |
    add 2: 20 max 6            |
    step                       | +2:0* +1:0* => 2=7 1=7
    step                       | 2:1* 1:1* => 2=7 1=7
    step                       | 2:2* 1:2* => 2=7 1=7
    step                       | 2:3* 1:3* => 2=7 1=7
    step                       | 2:4* => 2=7
    step                       | 2:5* => 2=7.length
    step                       | ^1:0-4* => 1=7
    step                       | 1:5* => 1=7.length
  )");
}

// Answer 2 resumes with a block for each position it may come to, and nobody can take them.
TEST(SchedulerPreemptionTest, WhoWasPreemptedOftenEnoughGetsAllItsBlocks) {
  SchedulerConfig config = Tight();
  config.policy = SchedulingPolicy::kPriority;
  config.num_blocks = 5;
  config.max_preemptions = 1;
  ExpectTrace(config, R"(
    add 1: 10 max 8             |
    add 2: 20 max 9             |
    step                        | +1:0* +2:0* => 1=7 2=7
    step                        | 1:1* 2:1* => 1=7 2=7
    step                        | 1:2* 2:2* => 1=7 2=7
    step                        | 1:3* 2:3* => 1=7 2=7
    step                        | 1:4* => 1=7
    step                        | 1:5* => 1=7
    step                        | 1:6* => 1=7
    step                        | 1:7* => 1=7.length
    step                        | ^2:0-4* => 2=7
    add 3: 30 max 9 priority -1 |
    step                        | 2:5* => 2=7
    step                        | 2:6* => 2=7
    stats                       | waiting 1/1 running 1 used 5 cached 0 hits 0/0 preempted 1
    step                        | 2:7* => 2=7
    step                        | 2:8* => 2=7.length
    step                        | +3:0* => 3=7
    step                        | 3:1* => 3=7
    step                        | 3:2* => 3=7
  )");
}

// The same with one preemption more: answer 3 is let in, and takes the blocks of answer 2.
TEST(SchedulerPreemptionTest, WhoWasNotMayBePreemptedAgain) {
  SchedulerConfig config = Tight();
  config.policy = SchedulingPolicy::kPriority;
  config.num_blocks = 5;
  config.max_preemptions = 2;
  ExpectTrace(config, R"(
    add 1: 10 max 8             |
    add 2: 20 max 9             |
    step                        | +1:0* +2:0* => 1=7 2=7
    step                        | 1:1* 2:1* => 1=7 2=7
    step                        | 1:2* 2:2* => 1=7 2=7
    step                        | 1:3* 2:3* => 1=7 2=7
    step                        | 1:4* => 1=7
    step                        | 1:5* => 1=7
    step                        | 1:6* => 1=7
    step                        | 1:7* => 1=7.length
    step                        | ^2:0-4* => 2=7
    add 3: 30 max 9 priority -1 |
    step                        | 2:5* +3:0* => 2=7 3=7
    step                        | 3:1* 2:6* => 3=7 2=7
    stats                       | waiting 0/0 running 2 used 5 cached 0 hits 0/0 preempted 1
    step                        | 3:2* => 3=7
    step                        | 3:3* => 3=7
    stats                       | waiting 1/1 running 1 used 2 cached 0 hits 0/0 preempted 2
  )");
}

TEST(SchedulerPreemptionTest, APreemptedOneEndsWithoutASlot) {
  SchedulerConfig config = Tight();
  ExpectTrace(config, R"(
    add 1: 10 max 6 |
    add 2: 20 max 6 |
    step            | +1:0* +2:0* => 1=7 2=7
    step            | 1:1* 2:1* => 1=7 2=7
    step            | 1:2* 2:2* => 1=7 2=7
    step            | 1:3* 2:3* => 1=7 2=7
    step            | 1:4* => 1=7
    deadline 2      | 2.deadline
    stats           | waiting 0/0 running 1 used 3 cached 0 hits 0/0 preempted 1
    step            | 1:5* => 1=7.length
  )");
}

TEST(SchedulerPreemptionTest, NobodyOvertakesForBeingSmall) {
  SchedulerConfig config = Tight();
  config.num_blocks = 5;  // room for the first, and for the third beside it
  ExpectTrace(config, R"(
    add 1: 10..14 max 2 |
    add 2: 20..24 max 2 |
    add 3: 30 max 1     |
    step                | +1:0-4* => 1=7
    step                | 1:5* => 1=7.length
    step                | +2:0-4* +3:0* => 2=7 3=7.length
    step                | 2:5* => 2=7.length
  )");
}

// --- Cancellation ---

TEST(SchedulerCancelTest, WhileWaiting) {
  SchedulerConfig config = Config();
  config.max_num_seqs = 1;
  ExpectTrace(config, R"(
    add 1: 1 max 9         |
    add 2: 2..4 max 9      |
    step                   | +1:0* => 1=7
    stats                  | waiting 1/3 running 1 used 1 cached 0 hits 0/0 preempted 0
    cancel 2               | 2.cancelled
    stats                  | waiting 0/0 running 1 used 1 cached 0 hits 0/0 preempted 0
    cancel 2               | unknown
    cancel 9               | unknown
  )");
}

TEST(SchedulerCancelTest, InThePromptAndInTheAnswer) {
  SchedulerConfig config = Config();
  config.max_num_batched_tokens = 4;
  ExpectTrace(config, R"(
    add 1: 1..6 max 9      |
    step                   | +1:0-3
    stats                  | waiting 0/0 running 1 used 2 cached 0 hits 0/0 preempted 0
    cancel 1               | 1.cancelled
    stats                  | waiting 0/0 running 0 used 0 cached 0 hits 0/0 preempted 0
    add 2: 1 2 max 9       |
    step                   | +2:0-1* => 2=7
    step                   | 2:2* => 2=7
    deadline 2             | 2.deadline
    step                   | -
  )");
}

// While a plan runs, its blocks and slots stay; the sampled token is dropped.
TEST(SchedulerCancelTest, BetweenPlanAndCommitItOnlyMarks) {
  ExpectTrace(Config(), R"(
    add 1: 1 max 9         |
    add 2: 2 max 9         |
    plan                   | +1:0* +2:0*
    cancel 1               | marked
    cancel 1               | unknown
    stats                  | waiting 0/0 running 2 used 2 cached 0 hits 0/0 preempted 0
    commit 50 60           | 1.cancelled 2=60
    stats                  | waiting 0/0 running 1 used 1 cached 0 hits 0/0 preempted 0
    plan                   | 2:1*
    deadline 2             | marked
    commit 61              | 2.deadline
    cancel 2               | unknown
  )");
}

TEST(SchedulerCancelTest, WhoHasNoRowsEndsAtOnceEvenDuringAStep) {
  SchedulerConfig config = Config();
  config.max_num_seqs = 1;
  ExpectTrace(config, R"(
    add 1: 1 max 9         |
    add 2: 2 max 9         |
    plan                   | +1:0*
    cancel 2               | 2.cancelled
    commit 50              | 1=50
  )");
}

TEST(SchedulerFailTest, TheSequencesOfAFailedStepEndTheOthersGoOn) {
  SchedulerConfig config = Config();
  config.max_num_seqs = 2;
  ExpectTrace(config, R"(
    add 1: 1 max 9         |
    add 2: 2 max 9         |
    add 3: 3 max 1         |
    plan                   | +1:0* +2:0*
    cancel 2               | marked
    fail                   | 1.error 2.cancelled
    stats                  | waiting 1/1 running 0 used 0 cached 0 hits 0/0 preempted 0
    step                   | +3:0* => 3=7.length
  )");
}

// --- Turns ---

TEST(SchedulerPriorityTest, LowerValuesGoFirst) {
  SchedulerConfig config = Config();
  config.policy = SchedulingPolicy::kPriority;
  config.max_num_seqs = 1;
  ExpectTrace(config, R"(
    add 1: 1 max 1 priority 1   |
    add 2: 2 max 1 priority -1  |
    add 3: 3 max 1              |
    add 4: 4 max 1              |
    step                        | +2:0* => 2=7.length
    step                        | +3:0* => 3=7.length
    step                        | +4:0* => 4=7.length
    step                        | +1:0* => 1=7.length
  )");
}

TEST(SchedulerPriorityTest, WhoWasPassedOverLongEnoughGoesFirst) {
  SchedulerConfig config = Config();
  config.policy = SchedulingPolicy::kPriority;
  config.wait_steps_max = 2;
  config.max_num_seqs = 1;
  ExpectTrace(config, R"(
    add 1: 1 max 1 priority 5   |
    add 2: 2 max 1              |
    step                        | +2:0* => 2=7.length
    add 3: 3 max 1              |
    step                        | +3:0* => 3=7.length
    add 4: 4 max 1              |
    step                        | +1:0* => 1=7.length
    step                        | +4:0* => 4=7.length
  )");
}

// --- Scored prompts ---

TEST(SchedulerScoreTest, EveryRowOfThePromptIsALogitRow) {
  SchedulerConfig config = Config();
  config.enable_prefix_caching = true;
  ExpectTrace(config, R"(
    add 1: 1..6 max 1        |
    step                     | +1:0-5* => 1=7.length
    add 2: 1..6 max 2 score  |
    step                     | +2:0-5*?5 => 2=7
    step                     | 2:6* => 2=7.length
  )");
}

TEST(SchedulerScoreTest, LogitsLimitTheRowsAndNobodyLosesHisOwn) {
  SchedulerConfig config = Config();
  config.max_num_seqs = 2;
  config.max_logits = 3;
  ExpectTrace(config, R"(
    add 1: 1..7 max 2 score  |
    step                     | +1:0-2?3
    add 2: 2 max 3           |
    step                     | 1:3-5?3
    step                     | 1:6* 2:0* => 1=7 2=7
  )");
}

}  // namespace
}  // namespace pregate
