// What may follow a text, by hand and against a search that compares everything.
#include "engine/plan/prompt_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace pregate {
namespace {

using ::testing::ElementsAre;

TEST(PromptLookupTest, NothingStandsTwice) {
  EXPECT_EQ(FindMatch({}).length, 0);
  EXPECT_EQ(FindMatch({5}).length, 0);
  EXPECT_EQ(FindMatch({1, 2, 3, 4}).length, 0);
}

TEST(PromptLookupTest, TheLongestMatchWinsAndTheNewestOfThose) {
  // "2 3" stands at 1, where "1 2 3" does, and at 5.
  LookupMatch match = FindMatch({1, 2, 3, 9, 8, 2, 3, 7, 1, 2, 3});
  EXPECT_EQ(match.length, 3);
  EXPECT_EQ(match.next, 3);
  match = FindMatch({2, 3, 9, 2, 3, 8, 2, 3});
  EXPECT_EQ(match.length, 2);
  EXPECT_EQ(match.next, 5);
}

TEST(PromptLookupTest, TheTextBeginsWithItsEnd) {
  const LookupMatch match = FindMatch({4, 5, 6, 4, 5});
  EXPECT_EQ(match.length, 2);
  EXPECT_EQ(match.next, 2);
}

TEST(PromptLookupTest, CopiesRunPastTheEndAsATextThatRepeatsItself) {
  EXPECT_THAT(CopyFrom({1, 2, 3}, 0, 2), ElementsAre(1, 2));
  EXPECT_THAT(CopyFrom({1, 2, 3}, 1, 5), ElementsAre(2, 3, 2, 3, 2));
  EXPECT_THAT(CopyFrom({1, 2, 3}, 2, 0), ElementsAre());
}

TEST(PromptLookupTest, OldPositionsAreOutOfSight) {
  std::vector<int32_t> tokens = {-1};
  for (int32_t i = 0; i < kLookupWindow - 2; ++i) tokens.push_back(i);
  tokens.push_back(-1);
  EXPECT_EQ(FindMatch(tokens).length, 1);  // the oldest that is seen
  tokens.insert(tokens.begin() + 1, -2);
  EXPECT_EQ(FindMatch(tokens).length, 0);
}

TEST(PromptLookupTest, AgainstEveryComparison) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> tokens(random() % 40);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 3);
    const int32_t size = static_cast<int32_t>(tokens.size());
    LookupMatch best;
    for (int32_t length = 1; length <= kLongestMatch; ++length) {
      for (int32_t next = length; next < size; ++next) {
        if (std::equal(tokens.end() - length, tokens.end(), tokens.begin() + next - length)) {
          best = {length, next};
        }
      }
    }
    const LookupMatch match = FindMatch(tokens);
    EXPECT_EQ(match.length, best.length);
    EXPECT_EQ(match.next, best.next);
  }
}

}  // namespace
}  // namespace pregate
