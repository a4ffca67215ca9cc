#include "engine/plan/step_cost_model.h"

#include <gtest/gtest.h>

#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

constexpr int64_t kBytes = 1'000'000;

struct Truth {
  double fixed, per_row, per_byte;
  double Seconds(int32_t rows, int64_t bytes) const {
    return fixed + per_row * rows + per_byte * static_cast<double>(bytes);
  }
};

constexpr Truth kTruth = {5e-3, 1e-4, 2e-8};

double Noise(SimRandom& random) { return 0.9 + 0.2 * random.Draw(0, 1000) / 1000.0; }

// Few rows to many, one seventh of the bytes to all.
void ObserveSteps(StepCostModel* model, const Truth& truth, SimRandom& random, int32_t steps) {
  for (int32_t i = 0; i < steps; ++i) {
    const int32_t rows = random.LogDraw(1, 256);
    const int64_t bytes = kBytes * random.Draw(1, 7) / 7;
    model->Observe(rows, bytes, truth.Seconds(rows, bytes) * Noise(random));
  }
}

void ExpectNear(const StepCost& cost, const Truth& truth, double tolerance) {
  for (const int32_t rows : {1, 16, 64, 256}) {
    for (const int64_t bytes : {kBytes / 7, kBytes / 2, kBytes}) {
      const double expected = truth.Seconds(rows, bytes);
      EXPECT_NEAR(cost.Seconds(rows, static_cast<double>(bytes)), expected, tolerance * expected)
          << rows << " rows, " << bytes << " bytes";
    }
  }
}

TEST(StepCostModelTest, LearnsTheLineFromNoisySteps) {
  StepCostModel model(kBytes);
  EXPECT_FALSE(model.ready());
  SimRandom random(1);
  ObserveSteps(&model, kTruth, random, 2000);
  EXPECT_TRUE(model.ready());
  ExpectNear(model.cost(), kTruth, 0.05);
  EXPECT_NEAR(model.cost().per_byte, kTruth.per_byte, 0.15 * kTruth.per_byte);
  EXPECT_NEAR(model.cost().per_row, kTruth.per_row, 0.15 * kTruth.per_row);
}

TEST(StepCostModelTest, PausesOfTheMachineMoveLittle) {
  StepCostModel model(kBytes);
  SimRandom random(2);
  for (int32_t i = 0; i < 3000; ++i) {
    const int32_t rows = random.LogDraw(1, 256);
    const int64_t bytes = kBytes * random.Draw(1, 7) / 7;
    const double pause = random.OneIn(50) ? 3.0 : 0;  // seconds, hundreds of steps
    model.Observe(rows, bytes, kTruth.Seconds(rows, bytes) + pause);
  }
  ExpectNear(model.cost(), kTruth, 0.15);
}

TEST(StepCostModelTest, NothingIsNegative) {
  StepCostModel model(kBytes);
  SimRandom random(3);
  for (int32_t i = 0; i < 500; ++i) {  // more rows take less time: no machine does that
    const int32_t rows = random.Draw(1, 100);
    model.Observe(rows, kBytes, 1.0 / rows);
    EXPECT_GE(model.cost().fixed, 0);
    EXPECT_GE(model.cost().per_row, 0);
    EXPECT_GE(model.cost().per_byte, 0);
  }
  EXPECT_DOUBLE_EQ(model.cost().per_row, 0);
}

TEST(StepCostModelTest, FollowsAMachineThatBecomesSlower) {
  StepCostModel model(kBytes);
  SimRandom random(4);
  ObserveSteps(&model, kTruth, random, 2000);
  const Truth slower = {2 * kTruth.fixed, 2 * kTruth.per_row, 2 * kTruth.per_byte};
  ObserveSteps(&model, slower, random, 6000);
  ExpectNear(model.cost(), slower, 0.1);
}

// Under heavy load every step reads everything; what light load has shown stays known.
TEST(StepCostModelTest, RemembersWhatSteadyLoadNoLongerShows) {
  StepCostModel model(kBytes);
  SimRandom random(5);
  ObserveSteps(&model, kTruth, random, 1000);
  for (int32_t i = 0; i < 1500; ++i) model.Observe(64, kBytes, kTruth.Seconds(64, kBytes));
  EXPECT_NEAR(model.cost().per_byte, kTruth.per_byte, 0.25 * kTruth.per_byte);
}

TEST(StepCostModelTest, WhatNoStepVariedIsNotMadeUp) {
  StepCostModel model(kBytes);
  for (int32_t i = 0; i < 100; ++i) model.Observe(1, 0, 1e-3);
  EXPECT_DOUBLE_EQ(model.cost().per_byte, 0);
}

TEST(StepCostModelTest, LearnsTheRateOfLoads) {
  StepCostModel model(kBytes);
  EXPECT_EQ(model.load_seconds_per_byte(), 0);
  for (int32_t i = 0; i < 100; ++i) model.ObserveLoad(1000, i == 50 ? 10.0 : 1e-3);
  EXPECT_NEAR(model.load_seconds_per_byte(), 1e-6, 0.1e-6);
}

TEST(StepCostModelTest, TheSameStepsGiveTheSameModel) {
  StepCostModel a(kBytes), b(kBytes);
  SimRandom one(6), two(6);
  ObserveSteps(&a, kTruth, one, 500);
  ObserveSteps(&b, kTruth, two, 500);
  EXPECT_EQ(a.cost().fixed, b.cost().fixed);
  EXPECT_EQ(a.cost().per_byte, b.cost().per_byte);
}

}  // namespace
}  // namespace pregate
