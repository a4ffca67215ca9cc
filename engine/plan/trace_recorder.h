// TraceRecorder: listens to what is said to a scheduler and writes it down as a workload's file
// (workload.h), so that ReplayWorkload comes to the same plans. A step that failed cannot be
// replayed.
#ifndef PREGATE_ENGINE_PLAN_TRACE_RECORDER_H_
#define PREGATE_ENGINE_PLAN_TRACE_RECORDER_H_

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/plan/scheduler.h"
#include "engine/plan/workload.h"

namespace pregate {

class TraceRecorder {
 public:
  explicit TraceRecorder(int32_t num_experts) : lines_(WorkloadHeader(num_experts)) {}

  // A request was taken by Add, `seconds` after the start.
  void Added(const Request& request, double seconds);
  // Cancel ended a sequence, or marked it (between Plan and Commit).
  void Cancelled(SequenceId id, bool in_step);
  void Admitted(const std::vector<Admission>& admissions);
  void Routed(const BatchPlan& rows, const std::vector<int32_t>& expert_ids);
  // A plan stands, and is not empty: what is said from now on counts for the next.
  void Planned();
  void UnitLoaded(int32_t unit, double seconds);
  void UnitFailed(int32_t unit);
  // A plan has run: after Commit, with what TakeEvents gave. Also for events between steps, with an
  // empty plan.
  void Ran(const BatchPlan& plan, const StepTimes& times, const std::vector<SequenceEvent>& events);

  // What is to be written since the last call. Whoever is still running at the end is left out.
  std::string TakeLines() { return std::exchange(lines_, {}); }

 private:
  struct Live {
    WorkloadRequest request;
    std::vector<int32_t> experts;   // of each token, -1 where not known
    std::vector<int32_t> stop_ids;  // as the request has them
  };

  int32_t NameOf(int32_t token);
  void End(SequenceId id, bool cancelled);

  std::string lines_;
  int64_t steps_ = 0;
  WorkloadStep step_;  // the one that runs
  WorkloadStep next_;
  std::unordered_map<SequenceId, Live> live_;
  std::unordered_map<int32_t, SequenceId> slots_;
  std::unordered_map<int32_t, int32_t> names_;  // of tokens, in the order they came
  std::unordered_map<uint64_t, uint64_t> salts_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_TRACE_RECORDER_H_
