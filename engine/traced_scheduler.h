// TracedScheduler: a scheduler, and a record of what it is told (`--record-trace`). Without a file
// it is the scheduler alone.
#ifndef PREGATE_ENGINE_TRACED_SCHEDULER_H_
#define PREGATE_ENGINE_TRACED_SCHEDULER_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "engine/plan/scheduler.h"
#include "engine/plan/trace_recorder.h"
#include "engine/trace_config.h"
#include "engine/trace_file.h"

namespace pregate {

// The verbs are those of Scheduler.
class TracedScheduler {
 public:
  // `file`: null, or outlives this.
  TracedScheduler(const SchedulerConfig& config, TraceFile* file)
      : scheduler_(config), file_(file) {
    if (file_ == nullptr) return;
    recorder_.emplace(config.experts.num_experts);
    file_->Append(recorder_->TakeLines());
    file_->Append(ToLine(config));
  }

  AddResult Add(Request request) {
    if (!recorder_) return scheduler_.Add(std::move(request));
    const AddResult result = scheduler_.Add(request);
    if (result == AddResult::kOk) recorder_->Added(request, SecondsSinceStart());
    return result;
  }
  bool Cancel(SequenceId id, FinishReason reason) {
    const bool cancelled = scheduler_.Cancel(id, reason);
    if (recorder_ && cancelled) recorder_->Cancelled(id, /*in_step=*/false);
    return cancelled;
  }
  void Admit() {
    scheduler_.Admit();
    if (recorder_) recorder_->Admitted(scheduler_.admissions());
  }
  BatchPlan Unrouted() { return scheduler_.Unrouted(); }
  void Routed(const BatchPlan& rows, const std::vector<int32_t>& expert_ids) {
    scheduler_.Routed(rows, expert_ids);
    if (recorder_) recorder_->Routed(rows, expert_ids);
  }
  BatchPlan Plan() {
    BatchPlan plan = scheduler_.Plan();
    if (recorder_ && !plan.empty()) recorder_->Planned();
    return plan;
  }
  const std::vector<Admission>& admissions() const { return scheduler_.admissions(); }
  void Commit(const BatchPlan& plan, const std::vector<int32_t>& token_ids,
              const StepTimes& times) {
    scheduler_.Commit(plan, token_ids, times);
    if (recorder_) ran_ = {plan, times};
  }
  void Fail(const BatchPlan& plan) { scheduler_.Fail(plan); }
  void UnitLoaded(int32_t unit, double seconds) {
    scheduler_.UnitLoaded(unit, seconds);
    if (recorder_) recorder_->UnitLoaded(unit, seconds);
  }
  void UnitFailed(int32_t unit) {
    scheduler_.UnitFailed(unit);
    if (recorder_) recorder_->UnitFailed(unit);
  }
  std::vector<SequenceEvent> TakeEvents() {
    std::vector<SequenceEvent> events = scheduler_.TakeEvents();
    if (recorder_) {
      const auto [plan, times] = std::exchange(ran_, {});
      recorder_->Ran(plan, times, events);
      file_->Append(recorder_->TakeLines());
    }
    return events;
  }
  SchedulerStats stats() const { return scheduler_.stats(); }

 private:
  double SecondsSinceStart() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  Scheduler scheduler_;
  TraceFile* const file_;
  std::optional<TraceRecorder> recorder_;
  std::pair<BatchPlan, StepTimes> ran_;  // and its events have not been taken
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_TRACED_SCHEDULER_H_
