#include "engine/plan/expert_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr ExpertMask E(int32_t expert) { return ExpertMask{1} << expert; }

ExpertCandidate Answer(int32_t expert) { return {.first = E(expert), .experts = E(expert)}; }

ExpertCandidate Prompt(std::vector<int32_t> experts, int32_t rows) {
  ExpertCandidate candidate = {.first = E(experts[0]), .rows = rows, .prompt = true};
  for (int32_t expert : experts) candidate.experts |= E(expert);
  return candidate;
}

// Four experts of one byte; a step costs 10 s, 0.1 s a row and 1 s an expert.
ExpertCosts Costs() {
  ExpertCosts costs;
  costs.fixed = 10;
  costs.per_row = 0.1;
  costs.layers = costs.capacity = 4;
  for (int32_t e = 0; e < 4; ++e) costs.units.push_back({.owners = E(e), .bytes = 1, .read = 1});
  return costs;
}

constexpr ExpertLimits kRoomy = {.rows = 100, .prompt_rows = 100, .sequences = 100};

TEST(ExpertCostsTest, SharedUnitsAreReadOnceAndLoadsOverlap) {
  ExpertCosts costs = Costs();
  costs.units.push_back({.owners = E(0) | E(1), .bytes = 2, .read = 5});
  EXPECT_DOUBLE_EQ(costs.Seconds(10, E(0) | E(1)), 10 + 1 + 1 + 1 + 5);
  EXPECT_EQ(costs.Bytes(E(0) | E(1)), 4);
  costs.units[2].load = 40;
  EXPECT_DOUBLE_EQ(costs.Seconds(0, E(2)), 40 + 40.0 / 4);  // all but the first layer's share
  costs.units[2].load = 8;
  EXPECT_DOUBLE_EQ(costs.Seconds(0, E(2)), 11 + 8.0 / 4);
}

TEST(ExpertPolicyTest, FcfsTakesEverybodyInOrder) {
  const std::vector<ExpertCandidate> candidates = {Answer(3), Prompt({0, 1, 2}, 5), Answer(0)};
  const ExpertChoice choice = ChooseExperts(ExpertPolicy::kFcfs, candidates, kRoomy, Costs());
  EXPECT_THAT(choice.chosen, ElementsAre(0, 1, 2));
  EXPECT_EQ(choice.experts, E(0) | E(1) | E(2) | E(3));
  EXPECT_EQ(choice.rows, 7);
}

TEST(ExpertPolicyTest, DecodeFirstAndPrefillFirstOrderByKind) {
  const std::vector<ExpertCandidate> candidates = {Answer(0), Prompt({1}, 2), Answer(2)};
  const auto choose = [&](ExpertPolicy policy) {
    return ChooseExperts(policy, candidates, {100, 100, 2}, Costs()).chosen;
  };
  EXPECT_THAT(choose(ExpertPolicy::kDecodeFirst), ElementsAre(0, 2));
  EXPECT_THAT(choose(ExpertPolicy::kPrefillFirst), ElementsAre(1, 0));
}

TEST(ExpertPolicyTest, PromptsKeepToTheirRows) {
  const std::vector<ExpertCandidate> candidates = {Prompt({0}, 5), Prompt({1}, 5), Answer(2)};
  const ExpertChoice choice =
      ChooseExperts(ExpertPolicy::kFcfs, candidates, {100, 5, 100}, Costs());
  EXPECT_THAT(choice.chosen, ElementsAre(0, 2));
}

TEST(ExpertPolicyTest, WhatDoesNotFitBesideTheOthersWaitsOrComesInPart) {
  ExpertCosts costs = Costs();
  costs.capacity = 2;
  const std::vector<ExpertCandidate> candidates = {Answer(0), Prompt({1, 2, 3}, 9), Answer(3),
                                                   Answer(1)};
  const ExpertChoice choice = ChooseExperts(ExpertPolicy::kFcfs, candidates, kRoomy, costs);
  EXPECT_THAT(choice.chosen, ElementsAre(0, 1, 3));
  EXPECT_EQ(choice.experts, E(0) | E(1));  // the prompt's rows up to its first of expert 2 or 3
}

TEST(ExpertPolicyTest, WhatIsHeldTakesRoom) {
  ExpertCosts costs = Costs();
  costs.capacity = 2;
  costs.units[3].held = true;
  EXPECT_TRUE(costs.Fits(E(0)));
  EXPECT_TRUE(costs.Fits(E(0) | E(3)));
  EXPECT_FALSE(costs.Fits(E(0) | E(1)));
}

TEST(ExpertPolicyTest, AlgorithmOneTakesTheLongestQueueFirst) {
  const std::vector<ExpertCandidate> candidates = {Answer(0), Answer(1), Answer(2),
                                                   Answer(1), Answer(2), Answer(1)};
  const auto choose = [&](int32_t sequences) {
    return ChooseLongestQueue(candidates, {100, 100, sequences}, Costs()).chosen;
  };
  EXPECT_THAT(choose(2), ElementsAre(1, 3));              // its head, where it does not fit
  EXPECT_THAT(choose(4), ElementsAre(1, 3, 5, 2));        // the next one fills up
  EXPECT_THAT(choose(6), ElementsAre(1, 3, 5, 2, 4, 0));  // all fit: as fcfs
}

TEST(ExpertPolicyTest, OverdueComesFirstTheLongestWaitBeforeAll) {
  std::vector<ExpertCandidate> candidates = {Answer(0), Answer(0), Answer(1), Answer(2)};
  candidates[2].overdue = candidates[3].overdue = true;
  candidates[2].plans_waited = 8;
  candidates[3].plans_waited = 9;
  for (const ExpertPolicy policy : {ExpertPolicy::kPaper, ExpertPolicy::kPlanned}) {
    const ExpertChoice choice = ChooseExperts(policy, candidates, {100, 100, 1}, Costs());
    EXPECT_THAT(choice.chosen, ElementsAre(3));
  }
}

TEST(ExpertPolicyTest, OneOfEachPromisedExpertComesBeforeTheOverdue) {
  std::vector<ExpertCandidate> candidates = {Answer(0), Answer(1), Answer(1)};
  candidates[0].overdue = true;
  ExpertCosts costs = Costs();
  costs.promised = E(1);
  const ExpertChoice choice = ChooseByCost(candidates, {100, 100, 2}, costs);
  EXPECT_THAT(choice.chosen, ElementsAre(1, 0));
}

TEST(ExpertPolicyTest, CheapExpertsAreAllTaken) {
  const std::vector<ExpertCandidate> candidates = {Answer(0), Answer(1), Answer(2), Answer(3)};
  EXPECT_THAT(ChooseByCost(candidates, kRoomy, Costs()).chosen, UnorderedElementsAre(0, 1, 2, 3));
}

TEST(ExpertPolicyTest, AShortQueueThatCostsMoreThanTheAverageWaits) {
  std::vector<ExpertCandidate> candidates(10, Answer(0));
  candidates.push_back(Answer(1));
  ExpertCosts costs = Costs();
  costs.units[1].load = 200;
  EXPECT_EQ(ChooseByCost(candidates, kRoomy, costs).experts, E(0));
  // Until it has waited so long that it is worth the load.
  candidates.back().plans_waited = 2500;
  EXPECT_EQ(ChooseByCost(candidates, kRoomy, costs).experts, E(0) | E(1));
  // Sooner where nothing has to be loaded.
  candidates.back().plans_waited = 2000;
  EXPECT_EQ(ChooseByCost(candidates, kRoomy, costs).experts, E(0));
  costs.all_fit = true;
  EXPECT_EQ(ChooseByCost(candidates, kRoomy, costs).experts, E(0) | E(1));
}

TEST(ExpertPolicyTest, WhatIsInMemoryComesBeforeALongerQueueThatIsNot) {
  std::vector<ExpertCandidate> candidates(5, Answer(1));
  candidates.push_back(Answer(0));
  candidates.push_back(Answer(0));
  ExpertCosts costs = Costs();
  costs.capacity = 1;
  costs.units[1].load = 100;
  EXPECT_EQ(ChooseByCost(candidates, kRoomy, costs).experts, E(0));
  costs.units[1].load = 0;
  EXPECT_EQ(ChooseByCost(candidates, kRoomy, costs).experts, E(1));
}

// Four experts of four bytes, of which two fit: 0 and 1 are in memory, the others take 20 s each.
ExpertCosts TwoFit() {
  ExpertCosts costs = {.fixed = 1, .per_row = 0.1, .layers = 4, .capacity = 8, .units = {}};
  for (int32_t e = 0; e < 4; ++e) {
    costs.units.push_back({.owners = E(e), .bytes = 4, .read = 0.1, .load = e < 2 ? 0.0 : 20.0});
  }
  return costs;
}

TEST(ExpertPolicyTest, APromptThatDoesNotFitWaitsForAStepForEverybody) {
  std::vector<ExpertCandidate> candidates = {Answer(2), Prompt({3, 2, 0, 1}, 40)};
  candidates[1].runs = 20;
  const auto choose = [&] {
    return ChooseExperts(ExpertPolicy::kPlanned, candidates, {100, 5, 100}, TwoFit());
  };
  // That step takes 50 s: two experts are loaded, and of four layers the first one's share first.
  candidates[1].waited = 49;
  EXPECT_THAT(choose().chosen, ElementsAre(0));
  EXPECT_EQ(choose().experts, E(2));
  candidates[1].waited = 51;
  EXPECT_THAT(choose().chosen, ElementsAre(0, 1));
  EXPECT_EQ(choose().experts, E(0) | E(1) | E(2) | E(3));
  EXPECT_EQ(choose().prompt_rows, 100);  // while it loads there is time for more than 5
}

TEST(ExpertPolicyTest, APromptAloneDoesNotWait) {
  const std::vector<ExpertCandidate> candidates = {Prompt({2, 3, 0}, 40)};
  EXPECT_THAT(ChooseExperts(ExpertPolicy::kPlanned, candidates, kRoomy, TwoFit()).chosen,
              ElementsAre(0));
}

TEST(ExpertPolicyTest, InOrderEverybodyStreams) {
  const std::vector<ExpertCandidate> candidates = {Answer(3), Answer(2), Answer(1), Answer(0)};
  EXPECT_THAT(ChooseExperts(ExpertPolicy::kFcfs, candidates, kRoomy, TwoFit()).chosen,
              ElementsAre(0, 1, 2, 3));
}

TEST(ExpertPolicyTest, AStreamNeedsRoomForTwoLayersOfEach) {
  ExpertCosts costs = TwoFit();
  EXPECT_TRUE(costs.CanStream(E(0) | E(1) | E(2) | E(3)));
  costs.units[0].held = true;  // 4 bytes are taken: 2 for each of the others are too many
  EXPECT_FALSE(costs.CanStream(E(0) | E(1) | E(2) | E(3)));
  EXPECT_TRUE(costs.CanStream(E(0) | E(1) | E(2)));
}

TEST(ExpertPolicyTest, NobodyIsNobody) {
  EXPECT_THAT(ChooseByCost({}, kRoomy, Costs()).chosen, IsEmpty());
  EXPECT_THAT(ChooseLongestQueue({}, kRoomy, Costs()).chosen, IsEmpty());
}

// Any policy, any candidates: nobody twice, within the limits, what is chosen fits, and somebody is
// chosen. What all limits have room for is what fcfs takes.
TEST(ExpertPolicyTest, ChoicesKeepTheirLimits) {
  SimRandom random(7);
  for (int32_t round = 0; round < 20'000; ++round) {
    ExpertCosts costs = Costs();
    costs.capacity = random.Draw(1, 4);
    for (ExpertCosts::Unit& unit : costs.units) {
      unit.read = random.Draw(0, 9);
      unit.load = random.OneIn(2) ? random.Draw(0, 50) : 0;
    }
    std::vector<ExpertCandidate> candidates(random.Draw(1, 12));
    for (ExpertCandidate& candidate : candidates) {
      candidate = Answer(random.Draw(0, 3));
      candidate.plans_waited = random.Draw(0, 20);
      candidate.overdue = random.OneIn(6);
      if (random.OneIn(4) && costs.capacity > 1) {
        candidate.prompt = true;
        candidate.rows = random.Draw(1, 9);
        candidate.experts |= E(random.Draw(0, 3));
      }
    }
    const ExpertLimits limits = {random.Draw(1, 20), random.Draw(1, 9), random.Draw(1, 12)};
    for (const ExpertPolicy policy :
         {ExpertPolicy::kFcfs, ExpertPolicy::kDecodeFirst, ExpertPolicy::kPrefillFirst,
          ExpertPolicy::kPaper, ExpertPolicy::kPlanned}) {
      const ExpertChoice choice = ChooseExperts(policy, candidates, limits, costs);
      std::vector<bool> seen(candidates.size());
      for (int32_t i : choice.chosen) {
        EXPECT_FALSE(seen[i]);
        seen[i] = true;
        EXPECT_NE(candidates[i].first & choice.experts, 0u);
      }
      EXPECT_FALSE(choice.chosen.empty());
      EXPECT_LE(static_cast<int32_t>(choice.chosen.size()), limits.sequences);
      EXPECT_LE(choice.rows, limits.rows);
      EXPECT_TRUE(costs.Fits(choice.experts));
    }
  }
}

}  // namespace
}  // namespace pregate
