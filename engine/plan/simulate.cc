#include "engine/plan/simulate.h"

#include <algorithm>
#include <bit>
#include <deque>
#include <limits>
#include <unordered_map>
#include <utility>

namespace pregate {
namespace {

// Ends an answer before its max_tokens, as the recorded one ended.
constexpr int32_t kStopToken = std::numeric_limits<int32_t>::max();

Distribution Summarize(std::vector<double> values) {
  Distribution summary;
  if (values.empty()) return summary;
  std::sort(values.begin(), values.end());
  for (double value : values) summary.mean += value / static_cast<double>(values.size());
  const auto at = [&](double share) {
    const double index = share * static_cast<double>(values.size());
    return values[std::min(static_cast<size_t>(index), values.size() - 1)];
  };
  summary.p50 = at(0.5);
  summary.p95 = at(0.95);
  summary.p99 = at(0.99);
  summary.most = values.back();
  return summary;
}

// One load after the other; what a step needs goes before what later ones will.
class Lane {
 public:
  explicit Lane(const SimulatedMachine& machine, const std::vector<ExpertUnit>& units)
      : machine_(machine), units_(units) {}

  void Add(const BatchPlan& plan) {
    // The load that has begun goes on.
    const size_t place = loads_.empty() ? 0 : 1;
    for (const std::vector<int32_t>* needed : {&plan.streamed_units, &plan.loads_now}) {
      for (auto unit = needed->rbegin(); unit != needed->rend(); ++unit) {
        loads_.insert(loads_.begin() + place, {*unit, Seconds(*unit)});
      }
    }
    for (int32_t unit : plan.loads_next) loads_.push_back({unit, Seconds(unit)});
  }

  // Seconds until the last of the units that `experts` need is there; they go first.
  double SecondsUntil(ExpertMask experts) {
    const auto needed = [&](const Load& load) { return (units_[load.unit].owners & experts) != 0; };
    if (loads_.size() > 1) std::stable_partition(loads_.begin() + 1, loads_.end(), needed);
    double seconds = 0, until = 0;
    for (const Load& load : loads_) {
      seconds += load.left;
      if (needed(load)) until = seconds;
    }
    return until;
  }

  // Time passes: hands out the units that are there.
  std::vector<int32_t> Pass(double seconds) {
    std::vector<int32_t> done;
    while (!loads_.empty() && loads_.front().left <= seconds + 1e-12) {
      seconds -= loads_.front().left;
      done.push_back(loads_.front().unit);
      loads_.pop_front();
    }
    if (!loads_.empty()) loads_.front().left -= seconds;
    return done;
  }
  double Seconds(int32_t unit) const {
    return machine_.load_per_byte * static_cast<double>(units_[unit].bytes);
  }

 private:
  struct Load {
    int32_t unit;
    double left;
  };
  const SimulatedMachine& machine_;
  const std::vector<ExpertUnit>& units_;
  std::deque<Load> loads_;
};

// Requests, what has become of them, and the scheduler between.
class Driver {
 public:
  Driver(const Workload& workload, const SchedulerConfig& config, TraceRecorder* recorder)
      : workload_(workload),
        recorder_(recorder),
        scheduler_(config),
        slot_owner_(config.max_num_seqs) {
    for (size_t i = 0; i < workload.requests.size(); ++i) {
      index_[workload.requests[i].id] = static_cast<int32_t>(i);
    }
    lives_.resize(workload.requests.size());
  }

  Scheduler& scheduler() { return scheduler_; }
  SimulateReport& report() { return report_; }
  double now() const { return now_; }
  int64_t live() const { return live_; }

  void StartMeasuring(int32_t first_request) {
    first_measured_ = first_request;
    if (first_request == 0) measured_from_ = 0;
  }

  // False: refused.
  bool Add(int32_t index) {
    const WorkloadRequest& from = workload_.requests[index];
    Request request;
    request.id = from.id;
    for (int32_t i = 0; i < from.prompt; ++i) request.prompt.push_back(Token(index, i));
    request.max_tokens = std::max(from.max_tokens, from.answer());
    request.stop_ids = from.stop_ids;
    if (request.max_tokens > from.answer()) request.stop_ids.push_back(kStopToken);
    request.priority = from.priority;
    request.cache_salt = from.salt;
    request.prompt_logits = from.scored;
    lives_[index].came = now_;
    if (index >= first_measured_ && measured_from_ < 0) measured_from_ = now_;
    const bool taken = scheduler_.Add(request) == AddResult::kOk;
    if (taken && recorder_ != nullptr) recorder_->Added(request, now_);
    live_ += taken;
    report_.refused += !taken;
    return taken;
  }

  // Takes up who waits, routes, and plans, as the engine does. `guessed`: as in WorkloadStep.
  BatchPlan Plan(const std::vector<uint8_t>& guessed = {}) {
    scheduler_.Admit();
    Bind(scheduler_.admissions());
    if (const BatchPlan rows = scheduler_.Unrouted(); !rows.empty()) {
      const std::vector<int32_t> experts = Route(rows, guessed);
      scheduler_.Routed(rows, experts);
      if (recorder_ != nullptr) recorder_->Routed(rows, experts);
    }
    BatchPlan plan = scheduler_.Plan();
    Bind(scheduler_.admissions());
    if (recorder_ != nullptr && !plan.empty()) recorder_->Planned();
    return plan;
  }

  // The plan has run in `times`; the requests that ended.
  std::vector<int32_t> Commit(const BatchPlan& plan, const StepTimes& times) {
    now_ += times.seconds;
    const std::vector<int32_t> token_ids = Sample(plan);
    ExpertMask experts = 0;
    for (int32_t expert : plan.expert_ids) experts |= ExpertMask{1} << expert;
    scheduler_.Commit(plan, token_ids, times);
    report_.expert_steps += std::popcount(experts);
    if (measured_from_ >= 0) {
      ++report_.steps;
      report_.distinct_experts += std::popcount(experts);
      report_.rows += plan.rows();
      report_.stall_seconds += times.stall;
    }
    return TakeEvents(plan, times);
  }

  // Of a step, or between steps.
  std::vector<int32_t> TakeEvents(const BatchPlan& plan = {}, const StepTimes& times = {}) {
    std::vector<int32_t> ended;
    const std::vector<SequenceEvent> events = scheduler_.TakeEvents();
    if (recorder_ != nullptr) recorder_->Ran(plan, times, events);
    for (const SequenceEvent& event : events) {
      const int32_t index = index_.at(event.id);
      Life& life = lives_[index];
      if (event.token_id >= 0) {
        if (life.tokens > 0) life.longest_gap = std::max(life.longest_gap, now_ - life.last);
        if (life.tokens++ == 0) life.first = now_;
        life.last = now_;
        report_.tokens += measured_from_ >= 0;
      }
      if (event.finish == FinishReason::kNone) continue;
      --live_;
      ended.push_back(index);
      if (index >= first_measured_ && life.tokens > 0) Measure(life);
    }
    return ended;
  }

  void Pass(double seconds) { now_ += seconds; }

  void UnitLoaded(int32_t unit, double seconds) {
    scheduler_.UnitLoaded(unit, seconds);
    if (recorder_ != nullptr) recorder_->UnitLoaded(unit, seconds);
  }

  SimulateReport Finish() {
    report_.seconds = now_ - std::max(measured_from_, 0.0);
    report_.requests = static_cast<int64_t>(end_to_end_.size());
    if (report_.seconds > 0) {
      report_.tokens_per_second = static_cast<double>(report_.tokens) / report_.seconds;
    }
    const double steps = static_cast<double>(std::max<int64_t>(report_.steps, 1));
    report_.distinct_experts /= steps;
    report_.rows /= steps;
    report_.end_to_end = Summarize(std::move(end_to_end_));
    report_.per_token = Summarize(std::move(per_token_));
    report_.first_token = Summarize(std::move(first_token_));
    report_.longest_gap = Summarize(std::move(longest_gap_));
    const SchedulerStats stats = scheduler_.stats();
    report_.preemptions = stats.preemptions;
    report_.draft_tokens = stats.draft_tokens;
    report_.accepted_tokens = stats.accepted_tokens;
    report_.experts = stats.experts;
    const ExpertCacheStats& cache = stats.experts.cache;
    if (const int64_t needed = cache.hits + cache.late + cache.misses; needed > 0) {
      report_.hit_ratio = static_cast<double>(cache.hits) / static_cast<double>(needed);
      report_.shadow_hit_ratio = stats.experts.shadow_hit_ratio;
      report_.floor_hit_ratio = stats.experts.floor_hit_ratio;
    }
    for (int32_t cause = 0; cause < kLoadCauses; ++cause) {
      report_.load_bytes += cache.load_bytes[cause];
      report_.wasted_bytes += cache.wasted_bytes[cause];
    }
    return report_;
  }

 private:
  struct Life {
    double came = 0, first = 0, last = 0, longest_gap = 0;
    int32_t tokens = 0;
  };

  void Bind(const std::vector<Admission>& admissions) {
    for (const Admission& admission : admissions) {
      slot_owner_[admission.slot] = index_.at(admission.id);
    }
    if (recorder_ != nullptr) recorder_->Admitted(admissions);
  }

  // The experts of the rows. That of a wrong guess is the next of `guessed`; where those are not
  // known, that of the token which came instead.
  std::vector<int32_t> Route(const BatchPlan& rows, const std::vector<uint8_t>& guessed) const {
    std::vector<int32_t> experts;
    auto guess = guessed.begin();
    for (int32_t s = 0; s < rows.sequences(); ++s) {
      const int32_t index = slot_owner_[rows.sequence_slots[s]];
      const WorkloadRequest& of = workload_.requests[index];
      const int32_t said = of.prompt + lives_[index].tokens;
      bool right = true;
      for (int32_t row = rows.row_start[s]; row < rows.row_start[s + 1]; ++row) {
        const int32_t position = rows.positions[row];
        experts.push_back(of.experts[std::min(position, of.size() - 1)]);
        if (position < said) continue;
        right = right && rows.token_ids[row] == Token(index, position);
        if (guess == guessed.end()) continue;
        if (!right) experts.back() = *guess;
        ++guess;
      }
    }
    return experts;
  }

  // What a sampler would give: nothing behind a guess that is not the answer's token.
  std::vector<int32_t> Sample(const BatchPlan& plan) const {
    std::vector<int32_t> token_ids;
    for (int32_t i = 0; i < plan.logits(); ++i) {
      const int32_t row = plan.logit_rows[i];
      const bool guessed =
          i > 0 && plan.logit_slots[i] == plan.logit_slots[i - 1] && plan.logit_targets[i - 1] < 0;
      token_ids.push_back(guessed && plan.token_ids[row] != token_ids.back()
                              ? kNotSampled
                              : Token(slot_owner_[plan.logit_slots[i]], plan.positions[row] + 1));
    }
    return token_ids;
  }

  int32_t Token(int32_t index, int32_t position) const {
    const WorkloadRequest& request = workload_.requests[index];
    if (position >= request.size()) return kStopToken;  // guessed past what was said
    const bool stopped =
        !request.tokens.empty() &&
        std::binary_search(request.stop_ids.begin(), request.stop_ids.end(), request.tokens.back());
    if (position + 1 == request.size() && request.max_tokens > request.answer() && !stopped) {
      return kStopToken;
    }
    if (!request.tokens.empty()) return request.tokens[position];
    // Different for each request, so that nobody finds another's prefix.
    return static_cast<int32_t>((static_cast<uint32_t>(index) * 2654435761u) >> 1);
  }

  void Measure(const Life& life) {
    end_to_end_.push_back(now_ - life.came);
    per_token_.push_back((now_ - life.came) / life.tokens);
    first_token_.push_back(life.first - life.came);
    if (life.tokens > 1) longest_gap_.push_back(life.longest_gap);
  }

  const Workload& workload_;
  TraceRecorder* const recorder_;
  Scheduler scheduler_;
  std::vector<int32_t> slot_owner_;  // [max_num_seqs] index of a request
  std::unordered_map<uint64_t, int32_t> index_;
  std::vector<Life> lives_;  // [requests]
  int64_t live_ = 0;
  double now_ = 0;
  int32_t first_measured_ = 0;
  double measured_from_ = -1;
  SimulateReport report_;
  std::vector<double> end_to_end_, per_token_, first_token_, longest_gap_;
};

// What a step takes, of which waiting for loads.
StepTimes TimeOf(const BatchPlan& plan, const SimulateOptions& options, Lane* lane) {
  const SimulatedMachine& machine = options.machine;
  ExpertMask experts = 0;
  for (int32_t expert : plan.expert_ids) experts |= ExpertMask{1} << expert;
  double compute = machine.fixed + machine.per_row * plan.rows();
  for (const ExpertUnit& unit : options.scheduler.experts.units) {
    if ((unit.owners & experts) != 0) {
      compute += machine.per_byte * static_cast<double>(unit.bytes);
    }
  }
  lane->Add(plan);
  const double load = lane->SecondsUntil(experts);
  const double seconds =
      machine.pipelined ? std::max(compute, load) + load / machine.layers : compute + load;
  return {seconds, seconds - compute};
}

}  // namespace

std::vector<ExpertUnit> TiedUnits(int64_t expert_bytes) {
  // Of one expert's bytes, those owned by 1 to 7 experts, and sets of so many.
  constexpr double kOwned[kTiedExperts] = {0.265, 0.345, 0.175, 0, 0.546, 0, 0.399};
  constexpr int32_t kSets[kTiedExperts] = {7, 21, 35, 35, 21, 7, 1};
  std::vector<ExpertUnit> units;
  for (ExpertMask owners = 1; owners < ExpertMask{1} << kTiedExperts; ++owners) {
    const int32_t others = std::popcount(owners) - 1;
    const double bytes = static_cast<double>(expert_bytes) * kOwned[others] / kSets[others];
    if (bytes > 0) units.push_back({owners, static_cast<int64_t>(bytes)});
  }
  return units;
}

SimulateReport SimulateWorkload(const Workload& workload, const SimulateOptions& options) {
  Driver driver(workload, options.scheduler, options.recorder);
  Lane lane(options.machine, options.scheduler.experts.units);
  driver.StartMeasuring(options.warm_up_requests);
  const int32_t requests = static_cast<int32_t>(workload.requests.size());
  int32_t next = 0;
  while (next < requests && next < options.clients) driver.Add(next++);
  const auto pass = [&](double seconds) {
    for (int32_t unit : lane.Pass(seconds)) {
      driver.UnitLoaded(unit, lane.Seconds(unit));
    }
  };
  while (driver.now() < options.longest_seconds) {
    while (options.clients == 0 && next < requests &&
           workload.requests[next].arrival <= driver.now()) {
      driver.Add(next++);
    }
    if (driver.live() == 0) {
      if (next == requests) break;
      // Idle until the next one comes.
      const double idle = std::max(workload.requests[next].arrival - driver.now(), 0.0);
      pass(idle);
      driver.Pass(idle);
      driver.Add(next++);
    }
    const BatchPlan plan = driver.Plan();
    if (plan.empty()) {
      driver.report().broken = "there is work, and no plan for it";
      break;
    }
    const StepTimes times = TimeOf(plan, options, &lane);
    const std::vector<int32_t> ended = driver.Commit(plan, times);
    pass(times.seconds);
    // Who asks in a circle stops when nobody new comes: the rest would be measured at less load.
    for (size_t i = 0; options.clients > 0 && i < ended.size(); ++i) {
      if (next == requests) return driver.Finish();
      driver.Add(next++);
    }
  }
  return driver.Finish();
}

SimulateReport ReplayWorkload(const Workload& workload, const SchedulerConfig& config) {
  Driver driver(workload, config, /*recorder=*/nullptr);
  driver.StartMeasuring(0);
  size_t request = 0, cancel = 0;
  const auto cancels = [&](int64_t step, bool in_step) {
    for (; cancel < workload.cancels.size() && workload.cancels[cancel].step == step &&
           workload.cancels[cancel].in_step == in_step;
         ++cancel) {
      driver.scheduler().Cancel(workload.cancels[cancel].id, FinishReason::kCancelled);
    }
    if (!in_step) driver.TakeEvents();
  };
  for (size_t i = 0; i < workload.steps.size(); ++i) {
    const WorkloadStep& step = workload.steps[i];
    const int64_t number = static_cast<int64_t>(i);
    for (; request < workload.requests.size() && workload.requests[request].step <= number;
         ++request) {
      driver.Add(static_cast<int32_t>(request));
    }
    for (size_t j = 0; j < step.loaded.size(); ++j) {
      driver.UnitLoaded(step.loaded[j], step.load_seconds[j]);
    }
    for (int32_t unit : step.failed) driver.scheduler().UnitFailed(unit);
    cancels(number, /*in_step=*/false);
    const BatchPlan plan = driver.Plan(step.guessed);
    ExpertMask experts = 0;
    for (int32_t expert : plan.expert_ids) experts |= ExpertMask{1} << expert;
    if (plan.empty() || experts != step.experts || (step.rows > 0 && plan.rows() != step.rows)) {
      driver.report().broken = "step " + std::to_string(i) + " is another than the recorded one";
      break;
    }
    cancels(number, /*in_step=*/true);
    driver.Commit(plan, {step.seconds, step.stall});
  }
  return driver.Finish();
}

}  // namespace pregate
