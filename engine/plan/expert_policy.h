// Which experts a step takes, and with them who gets rows: pure functions over plain candidates. A
// new policy is a new function here and a figure of the simulator.
//
// Whatever is chosen, a request's tokens stay the same: a choice decides when rows run, never how.
//
// Who is overdue comes before all, and before him one candidate for each expert that was promised:
// what was loaded for somebody who waits is used. Serving in order needs neither as long as all
// experts fit, since nobody is passed over.
#ifndef PREGATE_ENGINE_PLAN_EXPERT_POLICY_H_
#define PREGATE_ENGINE_PLAN_EXPERT_POLICY_H_

#include <algorithm>
#include <cstdint>
#include <vector>

namespace pregate {

// A set of experts: bit e is expert e.
using ExpertMask = uint64_t;
inline constexpr int32_t kMaxExperts = 64;

enum class ExpertPolicy : uint8_t {
  kAuto,          // kPlanned where the model of cost says that it wins, else kFcfs (ExpertPlanner)
  kFcfs,          // everything that fits, in the scheduler's order
  kDecodeFirst,   // the same, answers before prompts (DeepSpeed-Inference); for comparison
  kPrefillFirst,  // the same, prompts before answers (vLLM, TGI); for comparison
  kPaper,         // Read-ME, Algorithm 1: the longest queue first
  kPlanned,       // the cost of a step decides
};

// A sequence that could have rows in this plan. Candidates come in the scheduler's order.
struct ExpertCandidate {
  ExpertMask first = 0;      // the expert of its next row
  ExpertMask experts = 0;    // of all the rows it wants
  int32_t rows = 1;          // that it wants
  int32_t runs = 1;          // of one expert each, among them
  int64_t plans_waited = 0;  // since it last had rows
  double waited = 0;         // seconds, the same
  bool prompt = false;       // not an answer that goes on
  bool overdue = false;      // has waited as long as it may
};

// Neurons that are kept, read and loaded together: an expert that is a copy, or the neurons of tied
// experts that have the same owners.
struct ExpertUnit {
  ExpertMask owners = 0;  // the experts that need it
  int64_t bytes = 0;
};

// A unit that does not fit can be streamed: its piece of each layer is in memory from before that
// layer runs until after. Bytes of it in memory when that is `window` layers at once.
inline int64_t StreamBytes(int64_t bytes, int32_t layers, int32_t window) {
  return std::min((bytes + layers - 1) / layers * window, bytes);
}
inline constexpr int32_t kLeastStreamLayers = 2;  // one runs while the next one comes

// What a step costs, in seconds: fixed + per_row * rows + what the union of the experts' units
// costs to read, beside what has to be loaded first. Loads overlap with the layers before theirs:
// T = max(compute, load) + load / layers.
struct ExpertCosts {
  struct Unit {
    ExpertMask owners = 0;
    int64_t bytes = 0;
    double read = 0;  // seconds
    double load = 0;  // seconds, 0 where it is in memory
    bool pinned = false;
    bool held = false;  // pinned, on its way, or promised: its place is taken
  };
  double fixed = 0;
  double per_row = 0;
  int32_t layers = 1;
  int64_t capacity = 0;     // bytes that can be in memory at once
  bool all_fit = false;     // of all units
  ExpertMask promised = 0;  // were loaded for somebody who waits, and have had no rows since
  std::vector<Unit> units;

  // Seconds of a step without rows: what it computes, and what it loads meanwhile.
  struct Work {
    double compute = 0;
    double load = 0;
  };
  Work WorkOf(ExpertMask experts) const;
  double Seconds(int32_t rows, ExpertMask experts) const;
  // Rows that a step with these experts can have for nothing, while it loads.
  int32_t FreeRows(ExpertMask experts) const;
  // Whether all units of these experts can be in memory at once, beside what is held.
  bool Fits(ExpertMask experts) const;
  // Whether a step can have these experts, if those that are not held are streamed.
  bool CanStream(ExpertMask experts) const;
  int64_t Bytes(ExpertMask experts) const;
};

// Rows and sequences of one plan, at most.
struct ExpertLimits {
  int32_t rows = 0;
  int32_t prompt_rows = 0;  // of these, of prompts
  int32_t sequences = 0;
};

struct ExpertChoice {
  ExpertMask experts = 0;       // a sequence gets rows up to its first one of another expert
  std::vector<int32_t> chosen;  // candidates, in the order in which they are served
  int32_t rows = 0;             // of those, about
  int32_t prompt_rows = 0;      // that prompts may have in this step
};

// Serves the candidates in order, whatever experts they need.
ExpertChoice ChooseInOrder(ExpertPolicy order, const std::vector<ExpertCandidate>& candidates,
                           const ExpertLimits& limits, const ExpertCosts& costs);

// Read-ME, Algorithm 1 (section 4.2): the expert that most candidates wait for, and all of those,
// until the plan is full. A prompt stands in the queue of its next row's expert. The algorithm
// alone starves: it knows nobody who is overdue.
ExpertChoice ChooseLongestQueue(const std::vector<ExpertCandidate>& candidates,
                                const ExpertLimits& limits, const ExpertCosts& costs);

// Takes experts that fit as long as they raise the sequences served a second, the one that raises
// them most first: so those in memory come before those to be loaded, and long queues before short
// ones. What rows cost does not count: they are computed now or later, so a prompt is as welcome as
// an answer. A sequence counts for more the longer it was passed over. Where not all experts fit,
// the other way is a step for everybody that streams them: it is dear, but a prompt, which changes
// its expert every few tokens, gets on as far in it as in dozens of steps by expert. Beside answers
// that go on it is taken once prompts have waited as long for it, all together, as it lasts: so
// they share it when many come, and it costs at most twice what one who knew the future would pay.
ExpertChoice ChooseByCost(const std::vector<ExpertCandidate>& candidates,
                          const ExpertLimits& limits, const ExpertCosts& costs);

// As the policy says; not kAuto.
ExpertChoice ChooseExperts(ExpertPolicy policy, const std::vector<ExpertCandidate>& candidates,
                           const ExpertLimits& limits, const ExpertCosts& costs);

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_EXPERT_POLICY_H_
