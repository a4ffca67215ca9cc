#include "engine/plan/trace_recorder.h"

#include <algorithm>

namespace pregate {

void TraceRecorder::Added(const Request& request, double seconds) {
  Live& live = live_[request.id];
  live.request.id = request.id;
  live.request.arrival = seconds;
  live.request.step = steps_;
  live.request.prompt = static_cast<int32_t>(request.prompt.size());
  live.request.max_tokens = request.max_tokens;
  live.request.priority = request.priority;
  live.request.scored = request.prompt_logits;
  live.stop_ids = request.stop_ids;
  live.request.salt = salts_.emplace(request.cache_salt, salts_.size()).first->second;
  for (int32_t token : request.prompt) live.request.tokens.push_back(NameOf(token));
}

// What was said stays here: which tokens are equal is enough to find prefixes again.
int32_t TraceRecorder::NameOf(int32_t token) {
  return names_.emplace(token, static_cast<int32_t>(names_.size())).first->second;
}

void TraceRecorder::Cancelled(SequenceId id, bool in_step) {
  // A mark belongs to the step that runs, which is counted when it has run.
  lines_ += ToLine(WorkloadCancel{.id = id, .step = steps_, .in_step = in_step});
}

void TraceRecorder::Admitted(const std::vector<Admission>& admissions) {
  for (const Admission& admission : admissions) slots_[admission.slot] = admission.id;
}

void TraceRecorder::Routed(const BatchPlan& rows, const std::vector<int32_t>& expert_ids) {
  for (int32_t s = 0; s < rows.sequences(); ++s) {
    const auto live = live_.find(slots_[rows.sequence_slots[s]]);
    if (live == live_.end()) continue;
    std::vector<int32_t>& experts = live->second.experts;
    experts.resize(std::max<size_t>(experts.size(), rows.context_len[s]), -1);
    const int32_t size = static_cast<int32_t>(live->second.request.tokens.size());
    for (int32_t row = rows.row_start[s]; row < rows.row_start[s + 1]; ++row) {
      // A guess, which stands here until another token is found to stand in its place.
      if (rows.positions[row] >= size) next_.guessed.push_back(expert_ids[row]);
      experts[rows.positions[row]] = expert_ids[row];
    }
  }
}

void TraceRecorder::Planned() { step_ = std::exchange(next_, {}); }

void TraceRecorder::UnitLoaded(int32_t unit, double seconds) {
  next_.loaded.push_back(unit);
  next_.load_seconds.push_back(seconds);
}

void TraceRecorder::UnitFailed(int32_t unit) { next_.failed.push_back(unit); }

void TraceRecorder::Ran(const BatchPlan& plan, const StepTimes& times,
                        const std::vector<SequenceEvent>& events) {
  if (!plan.empty()) {
    step_.seconds = times.seconds;
    step_.stall = times.stall;
    step_.rows = plan.rows();
    for (int32_t expert : plan.expert_ids) step_.experts |= uint64_t{1} << expert;
    lines_ += ToLine(steps_++, step_);
  }
  for (const SequenceEvent& event : events) {
    const auto live = live_.find(event.id);
    if (live == live_.end()) continue;
    if (event.token_id >= 0) live->second.request.tokens.push_back(NameOf(event.token_id));
    if (event.finish == FinishReason::kNone) continue;
    End(event.id, event.finish != FinishReason::kStop && event.finish != FinishReason::kLength);
  }
}

void TraceRecorder::End(SequenceId id, bool cancelled) {
  auto node = live_.extract(id);
  WorkloadRequest& request = node.mapped().request;
  for (const int32_t stop_id : node.mapped().stop_ids) {
    const auto name = names_.find(stop_id);
    const std::vector<int32_t>& said = request.tokens;
    if (name == names_.end() || std::count(said.begin(), said.end(), name->second) == 0) continue;
    request.stop_ids.push_back(name->second);
  }
  std::sort(request.stop_ids.begin(), request.stop_ids.end());
  // Who was cancelled had more to say.
  if (cancelled) request.tokens.push_back(0);
  if (request.max_tokens < static_cast<int32_t>(request.tokens.size()) - request.prompt) {
    request.max_tokens = 0;
  }
  // Tokens from the prefix cache, and the last one, were never routed: the nearest known expert.
  std::vector<int32_t>& experts = node.mapped().experts;
  experts.resize(request.tokens.size(), -1);
  const auto known = std::find_if(experts.begin(), experts.end(), [](int32_t e) { return e >= 0; });
  int32_t last = known == experts.end() ? 0 : *known;
  for (int32_t expert : experts) {
    last = expert >= 0 ? expert : last;
    request.experts.push_back(static_cast<uint8_t>(last));
  }
  lines_ += ToLine(request);
}

}  // namespace pregate
