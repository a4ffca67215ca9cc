#include "engine/live_requests.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace pregate {
namespace {

// The likeliest tokens were found for the larger of two wishes; give out what this one asked for.
PositionLogprobs Trimmed(PositionLogprobs logprobs, int32_t top) {
  if (static_cast<int32_t>(logprobs.top.size()) > top) logprobs.top.resize(std::max(top, 0));
  return logprobs;
}

std::string DeadlineDetail(const LiveRequests::Answer& answer, SteadyTime now) {
  const int64_t ms = absl::ToInt64Milliseconds(absl::FromChrono(now - answer.of->submitted));
  if (!answer.admitted) return absl::StrCat("deadline: expired in queue after ", ms, " ms");
  if (answer.generated.empty()) {
    return absl::StrCat("deadline: expired in prefill after ", ms, " ms");
  }
  return absl::StrCat("deadline: expired after ", answer.generated.size(), " tokens and ", ms,
                      " ms");
}

}  // namespace

std::vector<Request> LiveRequests::Open(Submission submission,
                                        absl::Span<const int32_t> model_stop_ids) {
  auto shared = std::make_shared<Submission>(std::move(submission));
  GenerationRequest& asked = shared->request;
  std::vector<int32_t> stop_ids = asked.stop_ids;
  if (!asked.ignore_eos) {
    stop_ids.insert(stop_ids.end(), model_stop_ids.begin(), model_stop_ids.end());
  }
  std::sort(stop_ids.begin(), stop_ids.end());
  stop_ids.erase(std::unique(stop_ids.begin(), stop_ids.end()), stop_ids.end());

  texts_ += shared->pooling != nullptr;
  std::vector<Request> requests;
  for (size_t i = 0; i < asked.sampling.size(); ++i) {
    SamplingParams& sampling = asked.sampling[i];
    sampling.stop_ids = stop_ids;
    sampling.min_tokens = asked.min_tokens;
    const bool score_prompt = i == 0 && asked.prompt_logprobs >= 0;

    Request request;
    request.id = shared->id * kMaxAnswers + i;
    request.prompt = asked.prompt;
    request.max_tokens = std::max(asked.max_tokens, 1);  // Write drops what nobody asked for
    request.min_tokens = asked.min_tokens;
    if (asked.max_tokens > 0) request.stop_ids = stop_ids;
    request.priority = asked.priority;
    request.cache_salt = asked.cache_salt;
    request.prompt_logits = score_prompt;
    requests.push_back(std::move(request));

    Answer answer;
    answer.of = shared;
    answer.index = static_cast<int32_t>(i);
    answers_.emplace(requests.back().id, std::move(answer));
    if (shared->deadline != SteadyTime::max()) {
      deadlines_.emplace(shared->deadline, requests.back().id);
    }
  }
  return requests;
}

const LiveRequests::Answer& LiveRequests::Admitted(const Admission& admission, SteadyTime now) {
  Answer& answer = answers_.at(admission.id);
  if (!answer.admitted) {
    answer.first_step = now;
    answer.cached_tokens = admission.cached_tokens;
    LeaveQueue(answer);
    answer.admitted = true;
  }
  return answer;
}

void LiveRequests::AddPromptScores(const BatchPlan& plan, absl::Span<const SequenceId> slot_owner,
                                   const SampledTokens& sampled) {
  for (int32_t i = 0; i < plan.logits(); ++i) {
    if (plan.logit_targets[i] < 0) continue;
    Answer& answer = answers_.at(slot_owner[plan.logit_slots[i]]);
    if (answer.of->pooling != nullptr) continue;
    // Recomputed rows after a preemption score what is already known.
    const int32_t position = plan.positions[plan.logit_rows[i]];
    if (position != static_cast<int32_t>(answer.prompt_logprobs.size())) continue;
    assert(sampled.logprobs[i].has_value());
    answer.prompt_logprobs.push_back(
        Trimmed(*sampled.logprobs[i], answer.of->request.prompt_logprobs));
  }
}

void LiveRequests::AddHidden(const BatchPlan& plan, absl::Span<const SequenceId> slot_owner,
                             absl::Span<const float> hidden, int64_t size) {
  for (int32_t i = 0; i < plan.logits(); ++i) {
    const Answer& answer = answers_.at(slot_owner[plan.logit_slots[i]]);
    if (answer.of->pooling == nullptr) continue;
    answer.of->pooling->Add(plan.positions[plan.logit_rows[i]], hidden.data() + i * size, size);
  }
}

int32_t LiveRequests::CountPromptRows(const BatchPlan& plan,
                                      absl::Span<const SequenceId> slot_owner) const {
  int32_t count = 0;
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    const Answer& answer = answers_.at(slot_owner[plan.sequence_slots[s]]);
    const int32_t prompt_size = static_cast<int32_t>(answer.prompt().size());
    const int32_t rows = plan.row_start[s + 1] - plan.row_start[s];
    const int32_t first_position = plan.context_len[s] - rows;
    count += std::clamp(prompt_size - first_position, 0, rows);
  }
  return count;
}

void LiveRequests::AddPregate(const BatchPlan& plan, absl::Span<const SequenceId> slot_owner,
                              absl::Duration took) {
  for (const int32_t slot : plan.sequence_slots) answers_.at(slot_owner[slot]).pregate += took;
}

void LiveRequests::AddExperts(const BatchPlan& plan, absl::Span<const SequenceId> slot_owner,
                              absl::Duration stall) {
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    Answer& answer = answers_.at(slot_owner[plan.sequence_slots[s]]);
    answer.expert_stall += stall;
    for (int32_t row = plan.row_start[s]; row < plan.row_start[s + 1]; ++row) {
      answer.experts_met |= uint64_t{1} << plan.expert_ids[row];
    }
  }
}

int32_t LiveRequests::Write(const SequenceEvent& event, const SampledTokens* sampled,
                            SteadyTime now) {
  auto it = answers_.find(event.id);
  assert(it != answers_.end());
  Answer& answer = it->second;

  GenerationOutput output;
  output.index = answer.index;
  if (event.token_id >= 0) {
    assert(sampled != nullptr);
    if (answer.generated.empty()) {
      answer.first_token = now;
      output.prompt_logprobs = std::move(answer.prompt_logprobs);
    }
    answer.last_token = now;
    if (answer.of->request.max_tokens > 0) AddToken(event, *sampled, &answer, &output);
  }
  const int32_t tokens = static_cast<int32_t>(output.token_ids.size());
  output.finish = event.finish;
  if (event.finish == FinishReason::kNone) {
    written_.push_back({answer.of, std::move(output)});
    return tokens;
  }
  FillFinish(answer, event.finish, now, &output);
  if (!answer.admitted) LeaveQueue(answer);
  texts_ -= answer.of->pooling != nullptr;
  deadlines_.erase({answer.of->deadline, event.id});
  written_.push_back({std::move(answer.of), std::move(output)});
  answers_.erase(it);
  return tokens;
}

void LiveRequests::Send() {
  for (Written& written : written_) {
    departures_.ended_answers += written.output.finish != FinishReason::kNone;
    written.to->callback(std::move(written.output));
  }
  written_.clear();
}

void LiveRequests::AddToken(const SequenceEvent& event, const SampledTokens& sampled,
                            Answer* answer, GenerationOutput* output) {
  answer->generated.push_back(event.token_id);
  output->token_ids.push_back(event.token_id);
  const auto& logprobs = sampled.logprobs[event.logit_index];
  if (answer->sampling().wants_logprobs() && logprobs.has_value()) {
    output->logprobs.push_back(Trimmed(*logprobs, answer->sampling().logprobs));
  }
}

void LiveRequests::FillFinish(const Answer& answer, FinishReason reason, SteadyTime now,
                              GenerationOutput* output) const {
  output->prompt_tokens = static_cast<int32_t>(answer.prompt().size());
  output->cached_prompt_tokens = answer.cached_tokens;
  output->completion_tokens = static_cast<int32_t>(answer.generated.size());
  if (reason == FinishReason::kDeadline) output->detail = DeadlineDetail(answer, now);
  if (reason == FinishReason::kError)
    output->detail = absl::StrCat("engine: the step failed: ", step_error_);

  RequestTiming& timing = output->timing;
  const SteadyTime submitted = answer.of->submitted;
  timing.queue = absl::FromChrono((answer.admitted ? answer.first_step : now) - submitted);
  if (answer.first_token != SteadyTime()) {
    timing.time_to_first_token = absl::FromChrono(answer.first_token - submitted);
    timing.prefill = absl::FromChrono(answer.first_token - answer.first_step);
    timing.decode = absl::FromChrono(answer.last_token - answer.first_token);
  }
  timing.pregate = answer.pregate;
  timing.expert_stall = answer.expert_stall;
  timing.distinct_experts = std::popcount(answer.experts_met);
}

void LiveRequests::LeaveQueue(const Answer& answer) {
  departures_.queued_answers += 1;
  departures_.queued_tokens += static_cast<int64_t>(answer.prompt().size());
}

std::vector<SequenceId> LiveRequests::SequencesOf(uint64_t request_id,
                                                  std::optional<int32_t> index) const {
  std::vector<SequenceId> ids;
  for (uint64_t i = 0; i < kMaxAnswers; ++i) {
    const SequenceId id = request_id * kMaxAnswers + i;
    const bool meant = !index.has_value() || i == static_cast<uint64_t>(*index);
    if (meant && answers_.contains(id)) ids.push_back(id);
  }
  return ids;
}

std::vector<SequenceId> LiveRequests::Expired(SteadyTime now) const {
  std::vector<SequenceId> ids;
  for (const auto& [deadline, id] : deadlines_) {
    if (deadline > now) break;
    ids.push_back(id);
  }
  return ids;
}

std::vector<SequenceId> LiveRequests::All() const {
  std::vector<SequenceId> ids;
  for (const auto& [id, answer] : answers_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace pregate
