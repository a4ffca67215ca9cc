// Guesses ahead of answers, as traces (plan_trace.h).
#include <gtest/gtest.h>

#include <string>

#include "tests/plan/plan_trace.h"

namespace pregate {
namespace {

SchedulerConfig DraftConfig() {
  SchedulerConfig config = SmallConfig();
  config.max_draft_tokens = 3;
  return config;
}

void ExpectTrace(const SchedulerConfig& config, const std::string& table) {
  EXPECT_EQ(PlanTrace(config).Run(table), Tidy(table));
}

// 2 follows 1, and 3 follows 2: as the prompt has it.
TEST(SchedulerDraftsTest, WhatWasRightIsKept) {
  ExpectTrace(DraftConfig(), R"(
    add 1: 1 2 3 4 5 9 max 20 |
    step 1                    | +1:0-5* => 1=1
    step 2 3 4 5              | 1:6-9* => 1=2 1=3 1=4 1=5
    drafts                    | 3/3 in 1 used 3
    step 9 1 8                | 1:10-13* => 1=9 1=1 1=8
    drafts                    | 5/6 in 2 used 4
    step 7                    | 1:13* => 1=7
  )");
}

// Positions that were guessed wrong are computed again, in the same blocks.
TEST(SchedulerDraftsTest, WhatWasWrongIsComputedAgain) {
  ExpectTrace(DraftConfig(), R"(
    add 1: 1 2 3 4 max 20  |
    step 1                 | +1:0-3* => 1=1
    step 9                 | 1:4-7* => 1=9
    drafts                 | 0/3 in 1 used 2
    step 1                 | 1:5* => 1=1
    step 9 1 9 8           | 1:6-9* => 1=9 1=1 1=9 1=8
    drafts                 | 3/6 in 2 used 3
  )");
}

// An answer ends where it would end alone, whatever was right behind.
TEST(SchedulerDraftsTest, AnEndInTheMiddleCutsTheRest) {
  SchedulerConfig config = DraftConfig();
  ExpectTrace(config, R"(
    add 1: 1 2 3 4 max 20 stop 50 |
    step 1                        | +1:0-3* => 1=1
    step 2 50                     | 1:4-7* => 1=2 1=50.stop
    step                          | -
    add 2: 1 2 3 4 max 3          |
    step 1                        | +2:0-3* => 2=1
    step 2 3                      | 2:4-5* => 2=2 2=3.length
  )");
  config.max_model_len = 7;
  ExpectTrace(config, R"(
    add 1: 1 2 3 4 max 20 |
    step 1                | +1:0-3* => 1=1
    step 2 3              | 1:4-5* => 1=2 1=3.length
  )");
}

// A stop id ends the answer wherever it comes: nothing behind it is worth a row.
TEST(SchedulerDraftsTest, NothingIsGuessedFromAStopIdOn) {
  ExpectTrace(DraftConfig(), R"(
    add 1: 1 2 3 4 max 20 stop 3 |
    step 1                       | +1:0-3* => 1=1
    step 2 3                     | 1:4-5* => 1=2 1=3.stop
  )");
}

TEST(SchedulerDraftsTest, GuessesGetTheRowsAndLogitsThatAreLeft) {
  SchedulerConfig config = DraftConfig();
  config.max_num_batched_tokens = 6;
  ExpectTrace(config, R"(
    add 1: 1 2 max 20      |
    add 2: 1 2 max 20      |
    step 1 1               | +1:0-1* +2:0-1* => 1=1 2=1
    step 2 7 2 7           | 1:2-5* 2:2-3* => 1=2 1=7 2=2 2=7
  )");
  config.max_num_batched_tokens = 16;
  config.max_logits = 5;
  ExpectTrace(config, R"(
    add 1: 1 2 max 20      |
    add 2: 1 2 max 20      |
    step 1 1               | +1:0-1* +2:0-1* => 1=1 2=1
    step 2 1 2 8 2 1       | 1:2-5* 2:2* => 1=2 1=1 1=2 1=8 2=2
  )");
}

// Prompts have their rows before guesses have any.
TEST(SchedulerDraftsTest, PromptsComeFirst) {
  SchedulerConfig config = DraftConfig();
  config.max_num_batched_tokens = 8;
  config.max_num_prefill_tokens = 6;
  ExpectTrace(config, R"(
    add 1: 1 2 max 20      |
    step 1                 | +1:0-1* => 1=1
    add 2: 11..20 max 2    |
    step 2 7               | 1:2-3* +2:0-5 => 1=2 1=7
    step 6                 | 1:4* 2:6-9* => 1=6 2=7
  )");
}

// A guess takes a block only if nobody waits for it, and gives it back.
TEST(SchedulerDraftsTest, GuessesTakeNoBlockThatSomebodyNeeds) {
  SchedulerConfig config = DraftConfig();
  config.num_blocks = 3;
  config.enable_prefix_caching = false;
  ExpectTrace(config, R"(
    add 1: 1 2 max 10      |
    step 1                 | +1:0-1* => 1=1
    step 9                 | 1:2-5* => 1=9
    drafts                 | 0/3 in 1 used 1
    add 2: 11..18 max 2    |
    step 1                 | 1:3* => 1=1
    step 9 1               | 1:4-7* => 1=9 1=1 1=7
  )");
}

// A cancelled answer ends once, whatever its step has sampled; a failed step ends it.
TEST(SchedulerDraftsTest, CancelAndFail) {
  ExpectTrace(DraftConfig(), R"(
    add 1: 1 2 3 4 max 20  |
    step 1                 | +1:0-3* => 1=1
    plan                   | 1:4-7*
    cancel 1               | marked
    commit 2 3 4 5         | 1.cancelled
    add 2: 1 2 3 4 max 20  |
    step 1                 | +2:0-3* => 2=1
    plan                   | 2:4-7*
    fail                   | 2.error
    stats                  | waiting 0/0 running 0 used 0 cached 1 hits 0/8 preempted 0
  )");
}

// A block is shared once its tokens stand, never for what was guessed.
TEST(SchedulerDraftsTest, OnlyWhatStandsIsShared) {
  ExpectTrace(DraftConfig(), R"(
    add 1: 1 2 3 9 max 20           |
    step 1                          | +1:0-3* => 1=1
    step 2 8                        | 1:4-7* => 1=2 1=8
    add 2: 1 2 3 9 1 2 3 9 5 max 2  |
    step 5 6                        | 1:6* +2(4):4-8* => 1=5 2=6
    step 6                          | 1:7* 2:9* => 1=6 2=7.length
    add 3: 1 2 3 9 1 2 8 5 5 max 2  |
    step 5                          | 1:8* +3(8):8* => 1=5 3=7
  )");
}

}  // namespace
}  // namespace pregate
