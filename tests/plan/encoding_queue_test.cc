// Who shares a step of an encoder: order, bounds, and that nobody waits for ever.
#include "engine/plan/encoding_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr double kNever = std::numeric_limits<double>::infinity();

EncodingQueue MakeQueue(EncodingQueueConfig config, const std::vector<int64_t>& lengths) {
  EncodingQueue queue(config);
  uint64_t id = 0;
  for (const int64_t tokens : lengths) queue.Add({.id = ++id, .tokens = tokens});
  return queue;
}

std::vector<uint64_t> Step(EncodingQueue& queue) { return queue.TakeStep(0, 0); }

TEST(EncodingQueueTest, TakesTextsInOrderUpToTheTokensOfAStep) {
  EncodingQueue queue = MakeQueue({.max_tokens = 100}, {40, 40, 40, 20, 10});
  EXPECT_EQ(queue.tokens(), 150);
  EXPECT_THAT(Step(queue), ElementsAre(1, 2, 4));  // the third does not fit, a shorter one does
  EXPECT_THAT(Step(queue), ElementsAre(3, 5));
  EXPECT_THAT(Step(queue), IsEmpty());
  EXPECT_EQ(queue.tokens(), 0);
}

TEST(EncodingQueueTest, BoundsTheTextsOfAStep) {
  EncodingQueue queue = MakeQueue({.max_texts = 2}, {8, 8, 8});
  EXPECT_THAT(Step(queue), ElementsAre(1, 2));
  EXPECT_THAT(Step(queue), ElementsAre(3));
}

TEST(EncodingQueueTest, ShortTextsDoNotWaitForLongOnes) {
  EncodingQueue queue = MakeQueue({.max_tokens = 512, .few_tokens = 64}, {40, 400, 40, 30});
  EXPECT_THAT(Step(queue), ElementsAre(1, 3, 4));
  EXPECT_THAT(Step(queue), ElementsAre(2));
}

TEST(EncodingQueueTest, AStepWithLittleToDoTakesLongOnesIn) {
  EncodingQueue queue = MakeQueue({.max_tokens = 512, .few_tokens = 64}, {20, 400, 20, 300});
  EXPECT_THAT(Step(queue), ElementsAre(1, 2, 3));
  EXPECT_THAT(Step(queue), ElementsAre(4));
}

TEST(EncodingQueueTest, ATextLongerThanAStepIsAloneInOne) {
  EncodingQueue queue = MakeQueue({.max_tokens = 100}, {500, 90, 3});
  EXPECT_THAT(Step(queue), ElementsAre(1));
  EXPECT_THAT(Step(queue), ElementsAre(2, 3));
}

TEST(EncodingQueueTest, NobodyIsPassedOverForEver) {
  EncodingQueueConfig config = {.max_tokens = 256, .few_tokens = 64, .max_passed_over = 3};
  EncodingQueue queue(config);
  queue.Add({.id = 1000, .tokens = 70});
  queue.Add({.id = 1, .tokens = 200});  // longer than the class of what keeps coming
  int steps = 0;
  for (uint64_t id = 2;; ++id) {
    queue.Add({.id = id, .tokens = 70});
    queue.Add({.id = id + 2000, .tokens = 70});
    queue.Add({.id = id + 4000, .tokens = 70});
    ++steps;
    const std::vector<uint64_t> step = Step(queue);
    if (std::find(step.begin(), step.end(), uint64_t{1}) != step.end()) break;
    ASSERT_LE(steps, 3 + 2);
  }
}

TEST(EncodingQueueTest, LowerPriorityNumbersGoFirst) {
  EncodingQueue queue({.max_texts = 1});
  queue.Add({.id = 1, .tokens = 8, .priority = 5});
  queue.Add({.id = 2, .tokens = 8});
  queue.Add({.id = 3, .tokens = 8, .priority = 5});
  EXPECT_THAT(Step(queue), ElementsAre(2));
  EXPECT_THAT(Step(queue), ElementsAre(1));
  EXPECT_THAT(Step(queue), ElementsAre(3));
}

TEST(EncodingQueueTest, WhoWouldBeLateGoesFirst) {
  EncodingQueue queue({.max_texts = 1});
  queue.Add({.id = 1, .tokens = 8});
  queue.Add({.id = 2, .tokens = 8, .deadline = 100});
  queue.Add({.id = 3, .tokens = 8, .deadline = 12});
  queue.Add({.id = 4, .tokens = 8, .priority = 1, .deadline = 11});
  EXPECT_THAT(queue.TakeStep(10, 5), ElementsAre(3));  // not 4, whose priority is another
  EXPECT_THAT(queue.TakeStep(10, 5), ElementsAre(1));  // 2 has time
  EXPECT_THAT(queue.TakeStep(97, 5), ElementsAre(2));
  EXPECT_THAT(queue.TakeExpired(11), ElementsAre(4));
  EXPECT_TRUE(queue.empty());
}

TEST(EncodingQueueTest, TakesAwayWhatIsTooLateOrCancelled) {
  EncodingQueue queue({});
  queue.Add({.id = 1, .tokens = 8, .deadline = 5});
  queue.Add({.id = 2, .tokens = 16});
  queue.Add({.id = 3, .tokens = 32, .deadline = 4});
  EXPECT_THAT(queue.TakeExpired(3.9), IsEmpty());
  EXPECT_THAT(queue.TakeExpired(5), ElementsAre(1, 3));
  EXPECT_EQ(queue.tokens(), 16);
  EXPECT_FALSE(queue.Cancel(1));
  EXPECT_TRUE(queue.Cancel(2));
  EXPECT_FALSE(queue.Cancel(2));
  EXPECT_EQ(queue.tokens(), 0);
}

// Random worlds: every text leaves once, bounds hold, and how often a text is passed over is
// bounded.
TEST(EncodingQueueTest, RandomWorldsKeepTheBounds) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SimRandom random(seed);
    const EncodingQueueConfig config = {.max_tokens = 1 + random.Draw(0, 399),
                                        .max_texts = 1 + random.Draw(0, 7),
                                        .few_tokens = random.Draw(0, 99),
                                        .max_passed_over = random.Draw(0, 4),
                                        .window = 1 + random.Draw(0, 29)};
    EncodingQueue queue(config);
    std::map<uint64_t, EncodingQueue::Text> waiting;
    uint64_t next = 1;
    int64_t tokens = 0;
    const auto leave = [&](uint64_t id) {
      ASSERT_EQ(waiting.count(id), 1u) << "seed " << seed;
      tokens -= waiting[id].tokens;
      waiting.erase(id);
    };
    for (int now = 0; now < 200 || !waiting.empty(); ++now) {
      ASSERT_LT(now, 3000) << "seed " << seed << ": somebody never leaves";
      for (int64_t n = now < 200 ? random.Draw(0, 5) : 0; n > 0; --n) {
        const EncodingQueue::Text text = {
            .id = next++,
            .tokens = 1 + random.Draw(0, 299),
            .priority = random.Draw(0, 1),
            .deadline =
                random.Draw(0, 3) == 0 ? static_cast<double>(now + random.Draw(0, 39)) : kNever};
        queue.Add(text);
        waiting[text.id] = text;
        tokens += text.tokens;
      }
      for (const uint64_t id : queue.TakeExpired(now)) {
        ASSERT_LE(waiting[id].deadline, now);
        leave(id);
      }
      if (!waiting.empty() && random.Draw(0, 7) == 0) {
        const uint64_t id = waiting.begin()->first;
        ASSERT_TRUE(queue.Cancel(id));
        leave(id);
      }
      const std::vector<uint64_t> step = queue.TakeStep(now, 3);
      ASSERT_EQ(step.empty(), waiting.empty());
      int64_t sum = 0;
      for (const uint64_t id : step) {
        sum += waiting[id].tokens;
        leave(id);
      }
      ASSERT_LE(static_cast<int32_t>(step.size()), config.max_texts);
      ASSERT_TRUE(sum <= config.max_tokens || step.size() == 1) << "seed " << seed;
      ASSERT_EQ(queue.size(), static_cast<int32_t>(waiting.size()));
      ASSERT_EQ(queue.tokens(), tokens);
    }
  }
}

}  // namespace
}  // namespace pregate
