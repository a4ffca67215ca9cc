// How far the router is ahead of the steps: what is known when a step is planned, and no more.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "engine/plan/scheduler.h"

namespace pregate {
namespace {

constexpr int32_t kPrompts = 10;
constexpr int32_t kPromptTokens = 30;

SchedulerConfig LookaheadConfig(int32_t lookahead) {
  SchedulerConfig config;
  config.max_num_seqs = config.max_logits = 16;
  config.max_num_batched_tokens = 64;
  config.max_num_prefill_tokens = 8;
  config.num_blocks = 256;
  config.max_model_len = 256;
  config.enable_prefix_caching = false;
  config.experts.num_experts = 2;
  config.experts.policy = ExpertPolicy::kFcfs;
  config.experts.units = {{1, 100}, {2, 100}};
  config.router_lookahead_tokens = lookahead;
  return config;
}

// A scheduler, and what is known to it.
class Known {
 public:
  explicit Known(int32_t lookahead) : scheduler_(LookaheadConfig(lookahead)) {}

  void Add(SequenceId id, int32_t tokens) {
    Request request;
    request.id = id;
    request.prompt.assign(static_cast<size_t>(tokens), static_cast<int32_t>(id));
    request.max_tokens = 100;
    ASSERT_EQ(scheduler_.Add(std::move(request)), AddResult::kOk);
  }

  // Routes what may be, and runs a step.
  void Step() {
    scheduler_.Admit();
    for (BatchPlan rows = scheduler_.Unrouted(); !rows.empty(); rows = scheduler_.Unrouted()) {
      EXPECT_LE(rows.rows(), 64);
      routed_ += rows.rows();
      scheduler_.Routed(rows, std::vector<int32_t>(static_cast<size_t>(rows.rows()), 0));
    }
    const BatchPlan plan = scheduler_.Plan();
    ASSERT_FALSE(plan.empty());
    known_ahead_ = routed_ - computed_;
    computed_ += plan.rows();
    EXPECT_EQ(scheduler_.CheckInvariants(), "");
    scheduler_.Commit(plan, std::vector<int32_t>(static_cast<size_t>(plan.logits()), 9));
  }

  // An answer goes on, beside which eight rows of prompts run, and ten prompts come.
  void ServePromptsBesideAnAnswer() {
    Add(1, 1);
    Step();
    for (int32_t i = 0; i < kPrompts; ++i) Add(2 + static_cast<SequenceId>(i), kPromptTokens);
    Step();
  }

  // When the last step was planned: rows whose expert was known, and sequences with a slot.
  int64_t ahead() const { return known_ahead_; }
  int32_t running() const { return scheduler_.stats().running; }

 private:
  Scheduler scheduler_;
  int64_t routed_ = 0, computed_ = 0, known_ahead_ = 0;
};

TEST(RouterLookaheadTest, ZeroKnowsWhatTheStepMayRun) {
  Known known(0);
  known.ServePromptsBesideAnAnswer();
  EXPECT_EQ(known.ahead(), 1 + 8);
  EXPECT_EQ(known.running(), 2);
  known.Step();
  EXPECT_EQ(known.ahead(), 1 + 8);
}

TEST(RouterLookaheadTest, WithoutAnswersAStepMayRunAllItsRows) {
  Known known(0);
  known.Add(1, 100);
  known.Step();
  EXPECT_EQ(known.ahead(), 64);
  known.Step();
  EXPECT_EQ(known.ahead(), 36);
}

// A prompt is taken up as long as fewer tokens wait than may be known.
TEST(RouterLookaheadTest, TheDefaultIsAPlansWorth) {
  for (const int32_t lookahead : {-1, 64}) {
    Known known(lookahead);
    known.ServePromptsBesideAnAnswer();
    EXPECT_EQ(known.ahead(), 1 + 3 * kPromptTokens);
    EXPECT_EQ(known.running(), 1 + 3);
  }
}

TEST(RouterLookaheadTest, AllOfTheQueueMayBeKnown) {
  Known known(1000);
  known.ServePromptsBesideAnAnswer();
  EXPECT_EQ(known.ahead(), 1 + kPrompts * kPromptTokens);
  EXPECT_EQ(known.running(), 1 + kPrompts);
}

// One prompt is as long as many: no more of it is known than was asked for.
TEST(RouterLookaheadTest, ALongPromptIsKnownInPart) {
  for (const auto& [lookahead, ahead] :
       std::vector<std::pair<int32_t, int32_t>>{{0, 8}, {20, 20}, {-1, 64}, {100, 100}}) {
    Known known(lookahead);
    known.Add(1, 1);
    known.Step();
    known.Add(2, 200);
    known.Step();
    EXPECT_EQ(known.ahead(), 1 + ahead);
    known.Step();
    EXPECT_EQ(known.ahead(), 1 + ahead);
  }
}

}  // namespace
}  // namespace pregate
