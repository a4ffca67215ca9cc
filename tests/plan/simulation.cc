#include "tests/plan/simulation.h"

#include <algorithm>
#include <utility>

#include "engine/plan/prefix_cache.h"
#include "tests/plan/fake_model.h"
#include "tests/plan/plan_text.h"
#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

constexpr int32_t kMaxSteps = 100'000;

// The prefix cache's hash, of which only a few bits are left: collisions all the time.
template <int kBits>
uint64_t WeakHash(PrefixId parent, uint64_t salt, const int32_t* tokens, int32_t count) {
  return HashPrefix(parent, salt, tokens, count) >> 7 & ((uint64_t{1} << kBits) - 1);
}

PrefixHash HashOfBits(int32_t bits) {
  constexpr PrefixHash kWeak[] = {WeakHash<0>, WeakHash<1>, WeakHash<2>, WeakHash<3>, WeakHash<4>};
  return bits < static_cast<int32_t>(std::size(kWeak)) ? kWeak[bits] : HashPrefix;
}

SchedulerConfig ConfigOf(const World& world) {
  SchedulerConfig config = world.config;
  config.prefix_hash = HashOfBits(world.hash_bits);
  return config;
}

class Simulation {
 public:
  Simulation(const World& world, const SimulationOptions& options)
      : world_(world),
        options_(options),
        log_(options.log),
        scheduler_(ConfigOf(world)),
        model_(world.config.num_blocks, world.config.block_tokens, world.config.max_num_seqs,
               world.vocabulary, world.config.experts.num_experts),
        random_(world.load_seed),
        ledger_(world.config, world.vocabulary) {}

  SimulationResult Run() {
    for (step_ = 0; ledger_.broken().empty(); ++step_) {
      if (ledger_.live() == 0 && next_arrival_ == world_.arrivals.size()) break;
      BetweenSteps();
      Step();
      Check();
    }
    const SchedulerStats stats = scheduler_.stats();
    if (ledger_.broken().empty()) ledger_.CheckAtRest(stats);
    if (log_ != nullptr && !ledger_.broken().empty())
      *log_ << "BROKEN " << ledger_.broken() << "\n";
    result_.broken = ledger_.broken();
    result_.slowest = ledger_.slowest();
    result_.preemptions = stats.preemptions;
    result_.draft_tokens = stats.draft_tokens;
    result_.accepted_tokens = stats.accepted_tokens;
    result_.unit_hits = stats.experts.cache.hits;
    result_.prefix_hits = stats.prefix_hits;
    return result_;
  }

 private:
  void BetweenSteps();
  void EndLoads();
  void Open();
  void EndNeededLoads(const BatchPlan& plan, bool fail);
  void Step();
  void Add(const Request& request);
  void Cancel(SequenceId id, FinishReason reason);
  bool CancelInStep(const BatchPlan& plan);
  void Check();
  std::vector<SequenceEvent> TakeEvents();
  void Trace(const BatchPlan& plan);

  const World& world_;
  const SimulationOptions options_;
  std::ostream* const log_;
  Scheduler scheduler_;
  FakeModel model_;
  SimRandom random_;            // when loads end, and what steps take
  std::vector<int32_t> loads_;  // units on their way
  Ledger ledger_;
  int32_t step_ = 0;
  size_t next_arrival_ = 0;
  size_t next_fault_ = 0;
  std::vector<Fault> in_step_;  // faults of this step that strike between Plan and Commit
  SimulationResult result_;
};

void Simulation::BetweenSteps() {
  while (next_arrival_ < world_.arrivals.size() && world_.arrivals[next_arrival_].step <= step_) {
    Add(world_.arrivals[next_arrival_++].request);
  }
  in_step_.clear();
  for (; next_fault_ < world_.faults.size() && world_.faults[next_fault_].step <= step_;
       ++next_fault_) {
    const Fault& fault = world_.faults[next_fault_];
    switch (fault.kind) {
      case FaultKind::kCancel:
        Cancel(fault.id, FinishReason::kCancelled);
        break;
      case FaultKind::kDeadline:
        Cancel(fault.id, FinishReason::kDeadline);
        break;
      case FaultKind::kCancelAll:
        for (SequenceId id : ledger_.LiveIds()) Cancel(id, FinishReason::kCancelled);
        break;
      case FaultKind::kCancelInStep:
      case FaultKind::kFailStep:
        in_step_.push_back(fault);
        break;
    }
  }
  ledger_.Between(TakeEvents());
}

void Simulation::Add(const Request& request) {
  const SchedulerStats before = scheduler_.stats();
  const AddResult added = scheduler_.Add(request);
  ++result_.requests;
  result_.refused += added != AddResult::kOk;
  if (log_ != nullptr) {
    *log_ << "add " << ToString(request)
          << (added == AddResult::kOk          ? ""
              : added == AddResult::kQueueFull ? " -> queue full"
                                               : " -> never fits")
          << "\n";
  }
  ledger_.Added(request, added, before);
}

void Simulation::Cancel(SequenceId id, FinishReason reason) {
  const bool accepted = scheduler_.Cancel(id, reason);
  result_.cancelled += accepted;
  if (log_ != nullptr) *log_ << "cancel " << id << (accepted ? "" : " -> unknown") << "\n";
  ledger_.Cancelled(id, reason, accepted);
}

void Simulation::Step() {
  Open();
  if (!ledger_.broken().empty()) return;
  const BatchPlan plan = scheduler_.Plan();
  if (world_.config.experts.num_experts == 1) ledger_.Opened(scheduler_.admissions());
  ledger_.Planned(plan, scheduler_.admissions(), model_);
  if (log_ != nullptr && !plan.empty()) {
    *log_ << "step " << step_ << ": "
          << ToString(plan, scheduler_.admissions(), ledger_.slot_owner()) << "\n";
  }
  if (plan.empty() || !ledger_.broken().empty()) return;
  Trace(plan);
  ++result_.steps;
  result_.rows += plan.rows();
  for (const Admission& admission : scheduler_.admissions()) {
    model_.Bind(admission.slot, ledger_.request(admission.id));
  }
  loads_.insert(loads_.end(), plan.loads_now.begin(), plan.loads_now.end());
  loads_.insert(loads_.end(), plan.loads_next.begin(), plan.loads_next.end());
  result_.loads += std::ssize(plan.loads_now) + std::ssize(plan.loads_next);
  const bool fails = CancelInStep(plan);
  if (fails) {
    ++result_.failed_steps;
    model_.RunBadly(plan);
    EndNeededLoads(plan, world_.loads_fail);
    scheduler_.Fail(plan);
    ledger_.Failed(TakeEvents());
  } else {
    const std::vector<int32_t> token_ids = model_.Run(plan);
    EndNeededLoads(plan, /*fail=*/false);
    const double seconds = world_.timed ? 1e-3 * (random_.Draw(5, 10) + plan.rows()) : 0;
    scheduler_.Commit(plan, token_ids, {seconds, 0});
    ledger_.Committed(TakeEvents(), token_ids);
  }
}

// Takes up who waits, and routes everything that can be.
void Simulation::Open() {
  if (world_.config.experts.num_experts == 1) return;
  EndLoads();
  scheduler_.Admit();
  ledger_.Opened(scheduler_.admissions());
  for (const Admission& admission : scheduler_.admissions()) {
    model_.Bind(admission.slot, ledger_.request(admission.id));
  }
  for (BatchPlan rows = scheduler_.Unrouted(); !rows.empty(); rows = scheduler_.Unrouted()) {
    ledger_.Unrouted(rows, model_, scheduler_.stats());
    if (!ledger_.broken().empty()) return;
    scheduler_.Routed(rows, model_.Route(rows));
  }
  ledger_.AllRouted(scheduler_.stats());
}

// Loads take a while; now and then one fails.
void Simulation::EndLoads() {
  std::erase_if(loads_, [this](int32_t unit) {
    if (!random_.OneIn(3)) return false;
    const bool fails = world_.loads_fail && random_.OneIn(4);
    if (fails) {
      scheduler_.UnitFailed(unit);
      ledger_.UnitFailed(unit);
    } else {
      scheduler_.UnitLoaded(unit, world_.timed ? 1e-3 : 0);
      ledger_.UnitLoaded(unit);
    }
    return true;
  });
}

// A step has waited for what it needed.
void Simulation::EndNeededLoads(const BatchPlan& plan, bool fail) {
  ExpertMask experts = 0;
  for (int32_t expert : plan.expert_ids) experts |= ExpertMask{1} << expert;
  std::erase_if(loads_, [&](int32_t unit) {
    if ((world_.config.experts.units[unit].owners & experts) == 0) return false;
    if (fail) {
      scheduler_.UnitFailed(unit);
      ledger_.UnitFailed(unit);
    } else {
      ledger_.UnitLoaded(unit);
    }
    return true;
  });
}

// Clients leave while the plan is executed: its blocks and slots must stay as they are. Returns
// whether the step fails in the end.
bool Simulation::CancelInStep(const BatchPlan& plan) {
  bool fails = false;
  for (const Fault& fault : in_step_) {
    if (fault.kind == FaultKind::kFailStep) {
      fails = true;
    } else {
      Cancel(fault.id, FinishReason::kCancelled);
    }
  }
  if (in_step_.empty()) return false;
  ledger_.Between(TakeEvents());
  Check();
  std::vector<int32_t> blocks = plan.block_ids;
  std::sort(blocks.begin(), blocks.end());
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  const SchedulerStats stats = scheduler_.stats();
  if (stats.blocks_used < std::ssize(blocks) || stats.running < plan.sequences()) {
    ledger_.Break("I3: Cancel took blocks or slots from a plan that is executed");
  }
  return fails;
}

void Simulation::Check() {
  ledger_.CheckCounts(scheduler_.stats());
  if (options_.check_invariants) ledger_.Break(scheduler_.CheckInvariants());
  if (step_ > kMaxSteps) ledger_.Break("I15: does not come to an end");
}

std::vector<SequenceEvent> Simulation::TakeEvents() {
  std::vector<SequenceEvent> events = scheduler_.TakeEvents();
  for (const SequenceEvent& event : events) {
    result_.trace = Mix(result_.trace, event.id);
    result_.trace = Mix(result_.trace, static_cast<uint64_t>(event.slot));
    result_.trace = Mix(result_.trace, static_cast<uint64_t>(event.token_id));
    result_.trace = Mix(result_.trace, static_cast<uint64_t>(event.finish));
  }
  if (log_ != nullptr && !events.empty()) *log_ << "    " << ToString(events) << "\n";
  return events;
}

void Simulation::Trace(const BatchPlan& plan) {
  for (const std::vector<int32_t>* ids :
       {&plan.token_ids, &plan.kv_slots, &plan.sequence_slots, &plan.block_ids, &plan.logit_rows,
        &plan.expert_ids, &plan.evicted_units, &plan.loads_now, &plan.streamed_units,
        &plan.loads_next, &plan.host_evicted_units, &plan.host_kept_units}) {
    for (int32_t id : *ids) result_.trace = Mix(result_.trace, static_cast<uint64_t>(id));
  }
}

}  // namespace

SimulationResult Simulate(const World& world, const SimulationOptions& options) {
  return Simulation(world, options).Run();
}

namespace {

// Drops runs of `items`, long ones first, as long as `world` stays broken.
template <typename Item>
void DropWhileBroken(const SimulationOptions& options, World* world,
                     std::vector<Item> World::*items) {
  for (size_t run = (world->*items).size(); run > 0; run /= 2) {
    for (size_t first = 0; first < (world->*items).size();) {
      World smaller = *world;
      std::vector<Item>& left = smaller.*items;
      const size_t count = std::min(run, left.size() - first);
      left.erase(left.begin() + first, left.begin() + first + count);
      if (Simulate(smaller, options).broken.empty()) {
        first += count;
      } else {
        *world = std::move(smaller);
      }
    }
  }
}

}  // namespace

World Shrink(World world, const SimulationOptions& options) {
  DropWhileBroken(options, &world, &World::faults);
  DropWhileBroken(options, &world, &World::arrivals);
  DropWhileBroken(options, &world, &World::faults);
  return world;
}

}  // namespace pregate
