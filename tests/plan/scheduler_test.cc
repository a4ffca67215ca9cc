// The scheduler as traces: actions in, plans and events out (plan_trace.h tells how to read them).
#include "engine/plan/scheduler.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/plan/plan_trace.h"

namespace pregate {
namespace {

void ExpectTrace(const SchedulerConfig& config, const std::string& table) {
  EXPECT_EQ(PlanTrace(config).Run(table), Tidy(table));
}

// --- Prompts and answers ---

TEST(SchedulerTest, OneRequestFromPromptToEnd) {
  ExpectTrace(SmallConfig(), R"(
    step                   | -
    add 1: 1..6 max 3      |
    step 50                | +1:0-5* => 1=50
    step 51                | 1:6* => 1=51
    step 52                | 1:7* => 1=52.length
    step                   | -
  )");
}

TEST(SchedulerTest, ALongPromptIsComputedInChunks) {
  SchedulerConfig config = SmallConfig();
  config.max_num_batched_tokens = 4;
  ExpectTrace(config, R"(
    add 1: 1..10 max 2     |
    step                   | +1:0-3
    step                   | 1:4-7
    step 50                | 1:8-9* => 1=50
    step 51                | 1:10* => 1=51.length
  )");
}

// Answers get their row first; a prompt takes what is left.
TEST(SchedulerTest, PromptsAndAnswersShareAPlan) {
  SchedulerConfig config = SmallConfig();
  config.max_num_batched_tokens = 5;
  ExpectTrace(config, R"(
    add 1: 1..3 max 9      |
    add 2: 11..18 max 9    |
    step 50                | +1:0-2* +2:0-1 => 1=50
    step 51                | 1:3* 2:2-5 => 1=51
    step 52 60             | 1:4* 2:6-7* => 1=52 2=60
    step 53 61             | 1:5* 2:8* => 1=53 2=61
  )");
}

// Beside answers, prompts come in small chunks; alone they have the whole plan.
TEST(SchedulerTest, AnswersMakePromptsComeInSmallerChunks) {
  SchedulerConfig config = SmallConfig();
  config.max_num_prefill_tokens = 3;
  ExpectTrace(config, R"(
    add 1: 1..5 max 3      |
    add 2: 11..18 max 2    |
    step                   | +1:0-4* +2:0-7* => 1=7 2=7
    add 3: 21..24 max 2    |
    add 4: 31..39 max 2    |
    step                   | 1:5* 2:8* +3:0-2 => 1=7 2=7.length
    step                   | 1:6* 3:3* +4:0-1 => 1=7.length 3=7
    step                   | 3:4* 4:2-4 => 3=7.length
    step                   | 4:5-8* => 4=7
  )");
}

// The chunk goes to the first in order; who comes after him waits for the next.
TEST(SchedulerTest, OneChunkBesideAnswersIsForTheFirst) {
  SchedulerConfig config = SmallConfig();
  config.max_num_prefill_tokens = 2;
  config.policy = SchedulingPolicy::kPriority;
  ExpectTrace(config, R"(
    add 1: 1 max 9 priority 2        |
    step                             | +1:0* => 1=7
    add 2: 11..13 max 9 priority 2   |
    step                             | 1:1* +2:0-1 => 1=7
    add 3: 21..23 max 9 priority 1   |
    step                             | 1:2* 2:2* +3:0 => 1=7 2=7
    step                             | 3:1-2* 1:3* 2:3* => 3=7 1=7 2=7
  )");
}

// The first in order leaves a row for each who comes after.
TEST(SchedulerTest, APromptLeavesARowForEachWhoRuns) {
  SchedulerConfig config = SmallConfig();
  config.max_num_batched_tokens = 6;
  config.policy = SchedulingPolicy::kPriority;
  ExpectTrace(config, R"(
    add 1: 1 max 9 priority 1       |
    add 2: 2 max 9 priority 1       |
    step                            | +1:0* +2:0* => 1=7 2=7
    add 3: 31..50 max 9 priority 0  |
    step                            | 1:1* 2:1* +3:0-3 => 1=7 2=7
    step                            | 3:4-7 1:2* 2:2* => 1=7 2=7
  )");
}

TEST(SchedulerTest, SlotsAndRowsAreLimits) {
  SchedulerConfig config = SmallConfig();
  config.max_num_seqs = 2;
  ExpectTrace(config, R"(
    add 1: 1 max 1         |
    add 2: 2 max 2         |
    add 3: 3 max 1         |
    step                   | +1:0* +2:0* => 1=7.length 2=7
    step                   | 2:1* +3:0* => 2=7.length 3=7.length
  )");
  config.max_num_seqs = 4;
  config.max_num_batched_tokens = 2;
  ExpectTrace(config, R"(
    add 1: 1 max 1         |
    add 2: 2 max 2         |
    add 3: 3 max 1         |
    step                   | +1:0* +2:0* => 1=7.length 2=7
    step                   | 2:1* +3:0* => 2=7.length 3=7.length
  )");
}

// --- Ends ---

TEST(SchedulerTest, StopIdsEndAnAnswerAfterMinTokens) {
  ExpectTrace(SmallConfig(), R"(
    add 1: 1 max 9 stop 5 6        |
    step 4                         | +1:0* => 1=4
    step 6                         | 1:1* => 1=6.stop
    add 2: 2 max 9 min 2 stop 5    |
    step 5                         | +2:0* => 2=5
    step 5                         | 2:1* => 2=5
    step 5                         | 2:2* => 2=5.stop
    add 3: 3 max 2 stop 5          |
    step 4                         | +3:0* => 3=4
    step 5                         | 3:1* => 3=5.stop
  )");
}

TEST(SchedulerTest, TheContextEndsAnAnswer) {
  SchedulerConfig config = SmallConfig();
  config.max_model_len = 6;
  ExpectTrace(config, R"(
    add 1: 1..4 max 9      |
    step                   | +1:0-3* => 1=7
    step                   | 1:4* => 1=7.length
    add 2: 1..5 max 9      |
    step                   | +2(4):4* => 2=7.length
    add 3: 1..6 max 9      | never fits
  )");
}

// --- Admission ---

TEST(SchedulerTest, AFullQueueRefuses) {
  SchedulerConfig config = SmallConfig();
  config.max_num_seqs = 1;
  config.max_num_queued_reqs = 2;
  ExpectTrace(config, R"(
    add 1: 1 max 9         |
    add 2: 2 max 9         |
    add 3: 3 max 9         | queue full
    step                   | +1:0* => 1=7
    add 4: 4 max 9         |
    add 5: 5 max 9         | queue full
    cancel 2               | 2.cancelled
    add 6: 6 max 9         |
  )");
}

TEST(SchedulerTest, AQueueFullOfTokensRefuses) {
  SchedulerConfig config = SmallConfig();
  config.max_num_queued_tokens = 10;
  ExpectTrace(config, R"(
    add 1: 1..6 max 9      |
    add 2: 1..5 max 9      | queue full
    add 3: 1..4 max 9      |
    add 4: 1 max 9         | queue full
    step                   | +1:0-5* +3:0-3* => 1=7 3=7
    add 4: 1..10 max 9     |
  )");
}

// The last token of an answer needs no block.
TEST(SchedulerTest, WhatThePoolCanNeverHoldIsRefused) {
  SchedulerConfig config = SmallConfig();
  config.num_blocks = 2;
  ExpectTrace(config, R"(
    add 1: 1..8 max 1      |
    add 2: 1..8 max 2      | never fits
    add 3: 1..4 max 5      |
    add 4: 1..4 max 6      | never fits
    add 5: 1..9 max 1      | never fits
  )");
}

// --- The prefix cache ---

TEST(SchedulerTest, AnEqualPrefixIsNotComputedAgain) {
  ExpectTrace(SmallConfig(), R"(
    add 1: 1..10 max 1     |
    step                   | +1:0-9* => 1=7.length
    add 2: 1..9 20 max 1   |
    add 3: 1..5 20 max 1   |
    add 4: 2..9 max 1      |
    step                   | +2(8):8-9* +3(4):4-5* +4:0-7* => 2=7.length 3=7.length 4=7.length
    stats                  | waiting 0/0 running 0 used 0 cached 4 hits 12/34 preempted 0
  )");
}

TEST(SchedulerTest, AHitNeverReachesTheLastToken) {
  ExpectTrace(SmallConfig(), R"(
    add 1: 1..8 max 1      |
    step                   | +1:0-7* => 1=7.length
    add 2: 1..8 max 1      |
    step                   | +2(4):4-7* => 2=7.length
    add 3: 1..9 max 1      |
    step                   | +3(8):8* => 3=7.length
  )");
}

TEST(SchedulerTest, AnswersArePrefixesToo) {
  ExpectTrace(SmallConfig(), R"(
    add 1: 1..3 max 3            |
    step 50                      | +1:0-2* => 1=50
    step 51                      | 1:3* => 1=51
    step 52                      | 1:4* => 1=52.length
    add 2: 1..3 50 51 52 max 1   |
    step                         | +2(4):4-5* => 2=7.length
  )");
}

TEST(SchedulerTest, SaltsKeepTenantsApart) {
  ExpectTrace(SmallConfig(), R"(
    add 1: 1..6 max 1 salt 1     |
    step                         | +1:0-5* => 1=7.length
    add 2: 1..6 max 1 salt 2     |
    add 3: 1..6 max 1            |
    add 4: 1..6 max 1 salt 1     |
    step                         | +2:0-5* +3:0-5* +4(4):4-5* => 2=7.length 3=7.length 4=7.length
  )");
}

// n answers to one prompt: it is computed once, and its full blocks are held once.
TEST(SchedulerTest, AnswersToOnePromptShareIt) {
  ExpectTrace(SmallConfig(), R"(
    add 1: 1..9 max 3      |
    add 2: 1..9 max 3      |
    add 3: 1..9 max 3      |
    step 50                | +1:0-8* => 1=50
    step 51 60 70          | 1:9* +2(8):8* +3(8):8* => 1=51 2=60 3=70
    stats                  | waiting 0/0 running 3 used 5 cached 0 hits 16/27 preempted 0
    step 52 61 71          | 1:10* 2:9* 3:9* => 1=52.length 2=61 3=71
    step 62 72             | 2:10* 3:10* => 2=62.length 3=72.length
  )");
}

TEST(SchedulerTest, WithoutTheCacheEverybodyComputesHisOwn) {
  SchedulerConfig config = SmallConfig();
  config.enable_prefix_caching = false;
  ExpectTrace(config, R"(
    add 1: 1..6 max 1      |
    add 2: 1..6 max 1      |
    step                   | +1:0-5* +2:0-5* => 1=7.length 2=7.length
    stats                  | waiting 0/0 running 0 used 0 cached 0 hits 0/0 preempted 0
  )");
}

}  // namespace
}  // namespace pregate
