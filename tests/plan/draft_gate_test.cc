// Whether guesses pay, on machines that are formulas.
#include "engine/plan/draft_gate.h"

#include <gtest/gtest.h>

namespace pregate {
namespace {

// A gate that has seen steps of fixed + row seconds a row.
DraftGate Gate(double fixed, double row) {
  DraftGate gate;
  for (int i = 0; i < 200; ++i) {
    const int32_t rows = 1 << i % 6;
    gate.Ran(rows, fixed + row * rows);
  }
  return gate;
}

TEST(DraftGateTest, BeforeAnyStepEverythingIsTried) {
  DraftGate gate;
  gate.Open(1, 1);
  EXPECT_EQ(gate.Worth(0.1, 4), 4);
}

TEST(DraftGateTest, RowsThatCostLittleAreWorthUnlikelyTokens) {
  DraftGate gate = Gate(10e-3, 1e-4);
  gate.Open(1, 1);
  EXPECT_EQ(gate.Worth(0.9, 8), 8);
  gate.Open(1, 1);
  // The third would come with a chance of 0.008, for a hundredth of a step.
  EXPECT_EQ(gate.Worth(0.2, 8), 2);
}

TEST(DraftGateTest, RowsThatCostAsMuchAsTokensAreWorthNone) {
  DraftGate gate = Gate(1e-4, 10e-3);
  gate.Open(1, 1);
  EXPECT_EQ(gate.Worth(0.99, 8), 0);
}

// The more answers share a step, the less a token costs without a guess.
TEST(DraftGateTest, BesideManyAnswersGuessesPayLess) {
  DraftGate gate = Gate(3e-3, 1e-3);
  gate.Open(1, 1);
  EXPECT_GT(gate.Worth(0.8, 8), 1);
  gate.Open(16, 16);
  EXPECT_EQ(gate.Worth(0.8, 8), 0);
}

// Those before have made the step longer and given it more tokens.
TEST(DraftGateTest, EarlierAnswersCount) {
  DraftGate gate = Gate(3e-3, 1e-3);
  gate.Open(2, 2);
  const int32_t first = gate.Worth(0.75, 8);
  int32_t last = first;
  for (int i = 0; i < 8; ++i) last = gate.Worth(0.75, 8);
  EXPECT_GT(first, 0);
  EXPECT_LT(last, first);
}

TEST(DraftGateTest, OddsFollowWhatIsSampled) {
  DraftGate gate;
  DraftOdds odds = gate.Begin();
  for (int i = 0; i < 100; ++i) {
    gate.Observe(1, false, &odds);
    gate.Observe(4, true, &odds);
  }
  EXPECT_LT(odds.of(1), 0.01);
  EXPECT_GT(odds.of(4), 0.99);
  EXPECT_EQ(odds.of(2), DraftGate().Begin().of(2));
  // The next answer begins with what all have shown, which is remembered longer.
  const DraftOdds next = gate.Begin();
  EXPECT_LT(next.of(1), 0.4);
  EXPECT_GT(next.of(1), odds.of(1));
  EXPECT_GT(next.of(4), 0.6);
}

}  // namespace
}  // namespace pregate
