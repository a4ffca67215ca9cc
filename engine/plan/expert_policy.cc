#include "engine/plan/expert_policy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

namespace pregate {

ExpertCosts::Work ExpertCosts::WorkOf(ExpertMask experts) const {
  Work work = {.compute = fixed};
  for (const Unit& unit : units) {
    if ((unit.owners & experts) == 0) continue;
    work.compute += unit.read;
    work.load += unit.load;
  }
  return work;
}

double ExpertCosts::Seconds(int32_t rows, ExpertMask experts) const {
  const Work work = WorkOf(experts);
  return std::max(work.compute + per_row * rows, work.load) + work.load / layers;
}

int32_t ExpertCosts::FreeRows(ExpertMask experts) const {
  const Work work = WorkOf(experts);
  if (per_row <= 0 || work.load <= work.compute) return 0;
  return static_cast<int32_t>(std::min((work.load - work.compute) / per_row, 1e6));
}

int64_t ExpertCosts::Bytes(ExpertMask experts) const {
  int64_t bytes = 0;
  for (const Unit& unit : units) bytes += (unit.owners & experts) != 0 ? unit.bytes : 0;
  return bytes;
}

bool ExpertCosts::Fits(ExpertMask experts) const {
  if (all_fit) return true;
  int64_t bytes = 0;
  for (const Unit& unit : units) {
    if ((unit.owners & experts) != 0 || unit.held) bytes += unit.bytes;
  }
  return bytes <= capacity;
}

bool ExpertCosts::CanStream(ExpertMask experts) const {
  int64_t bytes = 0;
  for (const Unit& unit : units) {
    if (unit.held) bytes += unit.bytes;
    if (!unit.held && (unit.owners & experts) != 0)
      bytes += StreamBytes(unit.bytes, layers, kLeastStreamLayers);
  }
  return bytes <= capacity;
}

namespace {

// Of a plan, in sequences served. Where experts have to be loaded it is less: the longer a queue
// has grown, the more a load is worth, and that gains more than the gaps lose.
constexpr double kWorthOfWaiting = 0.25;
constexpr double kWorthWhereLoaded = 0.1;

// The plan as it fills.
class Filling {
 public:
  // `streams`: beyond what fits, as far as streaming goes.
  Filling(const std::vector<ExpertCandidate>& candidates, const ExpertLimits& limits,
          const ExpertCosts& costs, bool streams)
      : candidates_(candidates),
        limits_(limits),
        costs_(costs),
        streams_(streams),
        taken_(candidates.size()) {
    choice_.prompt_rows = limits.prompt_rows;
  }

  bool full() const {
    return choice_.rows >= limits_.rows ||
           static_cast<int32_t>(choice_.chosen.size()) >= limits_.sequences;
  }
  bool taken(int32_t i) const { return taken_[i]; }
  const ExpertChoice& choice() const { return choice_; }
  // Of the sequences served, each with what it is worth.
  double weight() const { return weight_; }
  double seconds() const { return costs_.Seconds(choice_.rows, choice_.experts); }
  int32_t sequences() const { return static_cast<int32_t>(choice_.chosen.size()); }

  // The candidate's experts that fit beside those taken: all, its first, or none.
  ExpertMask Fitting(int32_t i) const {
    const ExpertCandidate& candidate = candidates_[i];
    if (Fits(candidate.experts)) return candidate.experts;
    return Fits(candidate.first) ? candidate.first : 0;
  }

  // What serving the candidate is worth: the longer it was passed over, the more.
  double Worth(int32_t i) const {
    const double plan = costs_.all_fit ? kWorthOfWaiting : kWorthWhereLoaded;
    return 1 + plan * static_cast<double>(candidates_[i].plans_waited);
  }

  // Takes the candidate if it fits and there is room.
  void Take(int32_t i) {
    if (taken_[i] || full()) return;
    const ExpertCandidate& candidate = candidates_[i];
    const ExpertMask fitting = Fitting(i);
    const int32_t prompt_rows = PromptRows(fitting);
    const int32_t room = limits_.rows - choice_.rows;
    const int32_t rows =
        std::min({candidate.rows, room, candidate.prompt ? prompt_rows - prompt_rows_ : room});
    if (rows <= 0 || fitting == 0) return;
    taken_[i] = true;
    choice_.prompt_rows = prompt_rows;
    choice_.experts |= fitting;
    choice_.chosen.push_back(i);
    choice_.rows += rows;
    const double share = static_cast<double>(rows) / candidate.rows;
    const double runs = fitting == candidate.experts ? std::max(share * candidate.runs, 1.0) : 1;
    weight_ += runs * Worth(i);
    if (candidate.prompt) prompt_rows_ += rows;
  }

  // One for each promised expert, then those who have waited as long as they may, the longest wait
  // first.
  void TakeWhatMustGo() {
    ExpertMask promised = costs_.promised;
    TakeAll([&promised](const ExpertCandidate& candidate) {
      const bool keeps_promise = (candidate.first & promised) != 0;
      promised &= ~candidate.first;
      return keeps_promise;
    });
    std::vector<int32_t> overdue;
    for (int32_t i = 0; i < static_cast<int32_t>(candidates_.size()); ++i) {
      if (candidates_[i].overdue) overdue.push_back(i);
    }
    std::stable_sort(overdue.begin(), overdue.end(), [this](int32_t a, int32_t b) {
      return candidates_[a].plans_waited > candidates_[b].plans_waited;
    });
    for (int32_t i : overdue) Take(i);
  }

  // In order, those that `wanted` says.
  template <typename Wanted>
  void TakeAll(const Wanted& wanted) {
    for (int32_t i = 0; i < static_cast<int32_t>(candidates_.size()); ++i) {
      if (wanted(candidates_[i])) Take(i);
    }
  }

 private:
  bool Fits(ExpertMask more) const {
    const ExpertMask experts = choice_.experts | more;
    return costs_.Fits(experts) || (streams_ && costs_.CanStream(experts));
  }

  // That prompts may have beside answers if the plan takes these experts as well: more than it is
  // said, where loads leave the time.
  int32_t PromptRows(ExpertMask more) const {
    if (!streams_ || costs_.all_fit) return choice_.prompt_rows;
    const int32_t free = std::min(costs_.FreeRows(choice_.experts | more), limits_.rows);
    return std::max(choice_.prompt_rows, free);
  }

  const std::vector<ExpertCandidate>& candidates_;
  const ExpertLimits limits_;
  const ExpertCosts& costs_;
  const bool streams_;
  std::vector<bool> taken_;  // [candidates]
  ExpertChoice choice_;
  int32_t prompt_rows_ = 0;
  double weight_ = 0;
};

// Candidates that wait for the same experts.
struct Queue {
  ExpertMask experts = 0;
  int32_t count = 0;
  double weight = 0;
  int32_t rows = 0;
  int32_t first = 0;  // of them
};

// Sequences served a second by taking a queue as well.
struct Gain {
  double sequences = 0;
  double seconds = 0;
  bool Beats(const Gain& other) const {
    return sequences * other.seconds > other.sequences * seconds;
  }
};

std::vector<Queue> Queues(const std::vector<ExpertCandidate>& candidates, const Filling& filling) {
  std::vector<Queue> queues;
  for (int32_t i = 0; i < static_cast<int32_t>(candidates.size()); ++i) {
    const ExpertMask experts = filling.taken(i) ? 0 : filling.Fitting(i);
    if (experts == 0) continue;
    // A prompt in pieces would load as often as its expert changes: it only comes along.
    if (candidates[i].prompt && experts != candidates[i].experts) continue;
    auto queue = std::find_if(queues.begin(), queues.end(),
                              [&](const Queue& q) { return q.experts == experts; });
    if (queue == queues.end()) queue = queues.insert(queue, {.experts = experts, .first = i});
    ++queue->count;
    queue->weight += filling.Worth(i);
    queue->rows += candidates[i].rows;
  }
  return queues;
}

// Everybody in order.
Filling FillInOrder(ExpertPolicy order, const std::vector<ExpertCandidate>& candidates,
                    const ExpertLimits& limits, const ExpertCosts& costs) {
  Filling filling(candidates, limits, costs, /*streams=*/true);
  if (!costs.all_fit) filling.TakeWhatMustGo();
  const bool prompts_first = order == ExpertPolicy::kPrefillFirst;
  if (order != ExpertPolicy::kFcfs) {
    filling.TakeAll([&](const ExpertCandidate& c) { return c.prompt == prompts_first; });
  }
  filling.TakeAll([](const ExpertCandidate&) { return true; });
  return filling;
}

// Expert by expert, as many as pay, of those that fit.
Filling FillByCost(const std::vector<ExpertCandidate>& candidates, const ExpertLimits& limits,
                   const ExpertCosts& costs) {
  Filling filling(candidates, limits, costs, /*streams=*/false);
  filling.TakeWhatMustGo();
  const auto beside_rows = [&costs](int32_t rows, ExpertMask experts) {
    return costs.Seconds(rows, experts) - costs.per_row * rows;
  };
  while (!filling.full()) {
    const ExpertChoice& so_far = filling.choice();
    const Gain average = {filling.weight(), beside_rows(so_far.rows, so_far.experts)};
    const Queue* best = nullptr;
    Gain best_gain;
    const std::vector<Queue> queues = Queues(candidates, filling);
    for (const Queue& queue : queues) {
      const int32_t rows = std::min(so_far.rows + queue.rows, limits.rows);
      const int32_t room = limits.sequences - filling.sequences();
      const double more = filling.sequences() == 0 ? 0 : average.seconds;
      const Gain gain = {queue.weight * std::min(queue.count, room) / queue.count,
                         beside_rows(rows, so_far.experts | queue.experts) - more};
      if (best == nullptr || gain.Beats(best_gain)) {
        best = &queue;
        best_gain = gain;
      }
    }
    if (best == nullptr || (filling.sequences() > 0 && average.Beats(best_gain))) break;
    const ExpertMask experts = best->experts;
    const int32_t before = filling.sequences();
    for (int32_t i = best->first; i < static_cast<int32_t>(candidates.size()); ++i) {
      if (!filling.taken(i) && filling.Fitting(i) == experts) filling.Take(i);
    }
    if (filling.sequences() == before) break;
  }
  return filling;
}

}  // namespace

ExpertChoice ChooseInOrder(ExpertPolicy order, const std::vector<ExpertCandidate>& candidates,
                           const ExpertLimits& limits, const ExpertCosts& costs) {
  return FillInOrder(order, candidates, limits, costs).choice();
}

ExpertChoice ChooseLongestQueue(const std::vector<ExpertCandidate>& candidates,
                                const ExpertLimits& limits, const ExpertCosts& costs) {
  Filling filling(candidates, limits, costs, /*streams=*/false);
  filling.TakeWhatMustGo();
  std::array<int32_t, kMaxExperts> queue = {};
  for (int32_t i = 0; i < static_cast<int32_t>(candidates.size()); ++i) {
    if (!filling.taken(i)) ++queue[std::countr_zero(candidates[i].first)];
  }
  while (!filling.full()) {
    const auto longest = std::max_element(queue.begin(), queue.end());
    if (*longest == 0) break;
    *longest = 0;
    const ExpertMask expert = ExpertMask{1} << (longest - queue.begin());
    filling.TakeAll([expert](const ExpertCandidate& c) { return c.first == expert; });
  }
  return filling.choice();
}

ExpertChoice ChooseByCost(const std::vector<ExpertCandidate>& candidates,
                          const ExpertLimits& limits, const ExpertCosts& costs) {
  const Filling by_expert = FillByCost(candidates, limits, costs);
  if (costs.all_fit) return by_expert.choice();
  const Filling everybody = FillInOrder(ExpertPolicy::kFcfs, candidates, limits, costs);
  // An expert in memory has to make room for the stream, and comes back for the next step.
  double back = 0;
  if (!costs.Fits(everybody.choice().experts)) {
    for (const ExpertCosts::Unit& unit : costs.units) back = std::max(back, unit.load);
  }
  const Gain gain = {everybody.weight(), everybody.seconds() + back};
  const bool better = gain.Beats({by_expert.weight(), by_expert.seconds()});
  double waited = 0;
  bool answers = false;
  for (const ExpertCandidate& candidate : candidates) {
    if (candidate.prompt) waited += candidate.waited;
    answers |= !candidate.prompt;
  }
  const bool due = !answers || waited >= everybody.seconds();
  const bool stuck = by_expert.sequences() == 0;
  return (stuck || (better && due) ? everybody : by_expert).choice();
}

ExpertChoice ChooseExperts(ExpertPolicy policy, const std::vector<ExpertCandidate>& candidates,
                           const ExpertLimits& limits, const ExpertCosts& costs) {
  switch (policy) {
    case ExpertPolicy::kPaper:
      return ChooseLongestQueue(candidates, limits, costs);
    case ExpertPolicy::kPlanned:
      return ChooseByCost(candidates, limits, costs);
    case ExpertPolicy::kAuto:
    case ExpertPolicy::kFcfs:
    case ExpertPolicy::kDecodeFirst:
    case ExpertPolicy::kPrefillFirst:
      break;
  }
  return ChooseInOrder(policy, candidates, limits, costs);
}

}  // namespace pregate
