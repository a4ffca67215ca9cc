// ExpertPlanner: everything about experts that a scheduler asks for: who gets rows, what that step
// loads, what is loaded beside it. It joins the policy (expert_policy.h), the model of cost
// (step_cost_model.h) and the cache (expert_cache.h), and knows no sequence.
#ifndef PREGATE_ENGINE_PLAN_EXPERT_PLANNER_H_
#define PREGATE_ENGINE_PLAN_EXPERT_PLANNER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/plan/batch_plan.h"
#include "engine/plan/expert_cache.h"
#include "engine/plan/expert_policy.h"
#include "engine/plan/shadow_cache.h"
#include "engine/plan/step_cost_model.h"

namespace pregate {

struct ExpertConfig {
  int32_t num_experts = 1;  // at most kMaxExperts; 1: no router, and nothing below is read
  int32_t num_layers = 1;   // over which a load is spread
  ExpertPolicy policy = ExpertPolicy::kAuto;
  int32_t max_wait_steps = 256;  // plans that a sequence may be passed over
  double max_wait_gaps = 20;     // its usual gaps between tokens that it may be passed over
  // What the experts need, all layers together. Together they hold every expert weight once.
  std::vector<ExpertUnit> units;
  // Bytes of `units` that fit in memory; 0: all of them. Units that all experts own are pinned. It
  // must hold those and the units of any one expert.
  int64_t cache_bytes = 0;
  // Of the host's memory, where a device's stands before it and a disk behind it: units that come
  // from the disk may keep a place there. 0: there is no such place between.
  int64_t host_bytes = 0;
  ExpertEviction eviction = ExpertEviction::kPlanned;
  bool prefetch = true;  // loads for later steps while nothing else is loaded
};

// Why the planner batches by expert or not.
enum class ExpertBatching : uint8_t {
  kAsTold,         // the policy is not kAuto
  kLearning,       // auto: too few steps have been seen
  kNothingToGain,  // auto: all experts are resident and no step cap binds
  kTooLittle,      // auto: the model of cost expects too little
  kOn,             // auto: by cost
};
// One line for a log: "expert-batching: off: all experts resident and no step cap binds".
const char* Explain(ExpertBatching state);

// What a step took, on the engine's clock.
struct StepTimes {
  double seconds = 0;  // of the step, all of it
  double stall = 0;    // of these, waiting for loads
};

struct ExpertStats {
  ExpertBatching batching = ExpertBatching::kAsTold;
  double expected_gain = 1;  // auto: sequences served a second, by cost over in order
  double stickiness = 0;     // share of sampled tokens that keep the expert before them
  StepCost cost;
  ExpertCacheStats cache;
  bool has_cache = false;  // not all units fit: the ratios below mean something
  std::array<double, kShadowPolicies> shadow_hit_ratio = {};
  double floor_hit_ratio = 0;
};

class ExpertPlanner {
 public:
  explicit ExpertPlanner(const ExpertConfig& config);

  // Whether all experts can be in memory at once.
  bool all_fit() const { return costs_.all_fit; }

  // What rows of `more` add to a step that runs `experts`, where all fit: reading the units of one
  // more expert.
  double ExtraSeconds(ExpertMask experts, ExpertMask more) const {
    return costs_.Seconds(0, experts | more) - costs_.Seconds(0, experts);
  }

  // A new plan: what is in memory now, and what steps cost. Before all below.
  void Open();

  // Who gets rows; `candidates` in the scheduler's order.
  ExpertChoice Choose(const std::vector<ExpertCandidate>& candidates, const ExpertLimits& limits);

  // The rows of the plan stand: adds what it loads and evicts. `left` are the candidates that have
  // no rows in it.
  void AddLoads(const std::vector<ExpertCandidate>& left, BatchPlan* plan);

  // A token was sampled, and its expert and that of the token before it are known.
  void Sampled(int32_t expert_before, int32_t expert);

  void Ran(const BatchPlan& plan, const StepTimes& times);
  void DidNotRun();
  // A load has ended, in `seconds` (0: not measured), or has failed.
  void Loaded(int32_t unit, double seconds);
  void LoadFailed(int32_t unit);

  // An answer went on, so long after it did before.
  void Served(double gap);

  // Seconds of all steps so far, and between two tokens of an answer.
  double now() const { return now_; }
  double usual_gap() const { return usual_gap_; }

  ExpertStats stats() const;
  std::string CheckInvariants() const;

 private:
  std::vector<int32_t> UnitsOf(ExpertMask experts) const;
  bool Resident(ExpertMask experts) const;
  bool LeavesRoom(int32_t expert) const;
  ExpertChoice ChooseAutomatically(const std::vector<ExpertCandidate>& candidates,
                                   const ExpertLimits& limits);
  double GainByCost(std::vector<ExpertCandidate> candidates, const ExpertLimits& limits,
                    const ExpertChoice& in_order) const;
  void Prefetch(const std::vector<ExpertCandidate>& left, const std::vector<double>& queue,
                const std::vector<double>& expected, BatchPlan* plan);
  void KeepInHost(const std::vector<double>& expected, BatchPlan* plan);
  // [experts] rows that will need each next: those of `left`, and of the plan by stickiness.
  std::vector<double> ExpectedQueues(const std::vector<ExpertCandidate>& left,
                                     const BatchPlan& plan) const;
  // [units] the same for units.
  std::vector<double> OfUnits(const std::vector<double>& queue) const;

  const ExpertConfig config_;
  ExpertCosts costs_;        // as of now: what is in memory costs no load
  ExpertMask promised_ = 0;  // as in ExpertCosts, or still being loaded
  StepCostModel model_;
  std::optional<ExpertCache> cache_;     // none: everything is resident
  std::optional<ExpertCache> host_;      // none: what is not in memory is in one place
  std::optional<ShadowCaches> shadows_;  // of the units that are not pinned
  std::vector<int32_t> shadow_unit_;     // [units] its number there, -1: pinned
  std::vector<double> load_started_;     // [units] on the clock below
  double now_ = 0;                       // seconds of all steps so far
  double usual_gap_ = 0;
  double stickiness_ = 0.7;
  double gain_ = 1;
  ExpertBatching batching_ = ExpertBatching::kAsTold;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_EXPERT_PLANNER_H_
