// DraftGate: whether drafted tokens pay for their rows. It learns how often they are right from
// every token that is sampled, drafted or not, and what a row costs from the server's own steps;
// so drafting ends by itself where it does not help, and begins again where it does.
#ifndef PREGATE_ENGINE_PLAN_DRAFT_GATE_H_
#define PREGATE_ENGINE_PLAN_DRAFT_GATE_H_

#include <array>
#include <cstdint>

#include "engine/plan/prompt_lookup.h"
#include "engine/plan/step_cost_model.h"

namespace pregate {

// How likely the next drafted token is right if those before it were, by the length of the match.
class DraftOdds {
 public:
  explicit DraftOdds(double memory) : memory_(memory) {}  // in tokens
  double of(int32_t match) const { return odds_[match - 1]; }
  void Observe(int32_t match, bool right) {
    odds_[match - 1] += ((right ? 1 : 0) - odds_[match - 1]) / memory_;
  }
  // Takes over what another has seen.
  void CopyFrom(const DraftOdds& other) { odds_ = other.odds_; }

 private:
  static constexpr double kUnseen = 0.5;

  double memory_;
  std::array<double, kLongestMatch> odds_ = {kUnseen, kUnseen, kUnseen, kUnseen};
  static_assert(kLongestMatch == 4);
};

class DraftGate {
 public:
  // Odds of one answer, which begin with those of all.
  DraftOdds Begin() const;

  // A token was sampled where one had been looked up.
  void Observe(int32_t match, bool right, DraftOdds* own);
  // A step has run.
  void Ran(int32_t rows, double seconds) { model_.Observe(rows, 0, seconds); }

  // A plan of so many rows in which so many answers go on, before anything is drafted.
  void Open(int32_t rows, int32_t answers);
  // How many drafted tokens of the next answer, at most `most`, raise the tokens that this plan is
  // expected to give a second. Those before count.
  int32_t Worth(double odds, int32_t most);
  // Whether so many tokens more are worth so many seconds.
  bool Pays(double tokens, double seconds) const {
    return tokens * seconds_ >= kMargin * seconds * tokens_;
  }

 private:
  static constexpr double kMemory = 16;  // tokens of an answer
  static constexpr double kMemoryOfAll = 256;
  // A row must bring so much more than it costs: the model of cost is a straight line.
  static constexpr double kMargin = 1.1;

  StepCostModel model_{1};
  DraftOdds all_{kMemoryOfAll};
  double seconds_ = 0;  // of the plan
  double tokens_ = 0;   // that it is expected to give
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_DRAFT_GATE_H_
