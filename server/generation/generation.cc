#include "server/generation/generation.h"

#include <algorithm>
#include <utility>

#include "server/generation/rejection.h"

namespace pregate {
namespace {

void AddTokens(const AnswerDelta& ended, AnswerRecord* record) {
  record->prompt_tokens += ended.prompt_tokens;
  record->cached_prompt_tokens += ended.cached_prompt_tokens;
  record->completion_tokens += ended.completion_tokens;
}

}  // namespace

absl::StatusOr<std::shared_ptr<Generation>> Generation::Start(const ServedModel* model,
                                                              ClientRequest request, Wake wake) {
  std::shared_ptr<Generation> generation(new Generation(model, request, std::move(wake)));
  absl::StatusOr<GenerationRequest> wanted = model->Translate(std::move(request));
  absl::Status status =
      wanted.ok() ? generation->Submit(*std::move(wanted)) : std::move(wanted).status();
  if (status.ok()) return generation;
  model->metrics().CountRejection(RejectionOf(status));
  return status;
}

Generation::Generation(const ServedModel* model, const ClientRequest& request, Wake wake)
    : model_(model),
      wake_(std::move(wake)),
      stream_(request.stream),
      is_chat_(std::holds_alternative<std::vector<ChatMessage>>(request.prompt)) {
  // Of a number of answers that Translate will refuse, nothing is set up.
  const int32_t answers = request.n > kMaxAnswers ? 0 : std::max(request.n, 0);
  const int32_t min_tokens = static_cast<int32_t>(std::min<int64_t>(request.min_tokens, INT32_MAX));
  for (int32_t i = 0; i < answers; ++i) {
    answers_.push_back({AnswerText(&model->tokenizer(), request.stop, min_tokens)});
  }
  last_token_.resize(answers);
}

absl::Status Generation::Submit(GenerationRequest request) {
  // Held until the id is known: an output may come, and with it a reason to cancel, before Submit
  // returns. The engine takes no lock of its own around its callbacks.
  absl::MutexLock lock(&mutex_);
  submitted_ = std::chrono::steady_clock::now();
  const absl::StatusOr<uint64_t> id = model_->engine().Submit(
      std::move(request),
      [self = shared_from_this()](GenerationOutput output) { self->Receive(std::move(output)); });
  if (id.ok()) request_id_ = *id;
  return id.status();
}

void Generation::Receive(GenerationOutput output) {
  const SteadyTime now = std::chrono::steady_clock::now();
  bool first;
  {
    absl::MutexLock lock(&mutex_);
    if (!output.token_ids.empty()) {
      SteadyTime& last = last_token_[output.index];
      if (last != SteadyTime()) {
        model_->metrics().ObserveInterToken(absl::FromChrono(now - last));
      }
      last = now;
    }
    backlog_.tokens += static_cast<int64_t>(output.token_ids.size());
    engine_ended_ += output.finish != FinishReason::kNone;
    backlog_.complete = engine_ended_ == last_token_.size();
    first = outputs_.empty();
    outputs_.push_back(std::move(output));
  }
  if (first) wake_();
}

std::vector<AnswerDelta> Generation::Take(size_t outputs) {
  if (!has_more()) {
    taken_.clear();
    next_taken_ = 0;
    absl::MutexLock lock(&mutex_);
    taken_.swap(outputs_);
    backlog_.tokens = 0;
  }
  for (; outputs > 0 && has_more(); --outputs) {
    GenerationOutput output = std::move(taken_[next_taken_++]);
    const int32_t index = output.index;
    Answer& answer = answers_[index];
    answer.text.Add(std::move(output), &answer.delta);
    if (answer.delta.finish != FinishReason::kNone) {
      EndAnswer(&answer.delta);
    } else if (answer.text.stopped() && !answer.engine_cancelled) {
      answer.engine_cancelled = true;
      absl::MutexLock lock(&mutex_);
      model_->engine().CancelAnswer(request_id_, index);
    }
  }
  std::vector<AnswerDelta> deltas;
  for (Answer& answer : answers_) {
    const bool ended = answer.delta.finish != FinishReason::kNone;
    if (ended || (stream_ && !answer.delta.empty())) {
      deltas.push_back(std::exchange(answer.delta, AnswerDelta()));
    }
  }
  return deltas;
}

void Generation::EndAnswer(AnswerDelta* delta) {
  ++ended_;
  const absl::Status status = StatusOf(*delta);
  if (status_.ok()) status_ = status;
  if (delta->finish == FinishReason::kCancelled && !absl::IsCancelled(status)) {
    delta->finish = FinishReason::kError;
  }
  answers_[delta->index].finish = delta->finish;

  AnswerRecord answer;
  answer.finish = delta->finish;
  answer.drained = absl::IsUnavailable(status);
  answer.timing = delta->timing;
  answer.end_to_end = absl::FromChrono(std::chrono::steady_clock::now() - arrived_);
  AddTokens(*delta, &answer);
  model_->metrics().ObserveAnswer(answer);
  if (ended_ == 1) {
    record_ = answer;
  } else {
    AddTokens(*delta, &record_);
  }
}

absl::Status Generation::StatusOf(const AnswerDelta& delta) const {
  switch (delta.finish) {
    case FinishReason::kCancelled: {
      absl::MutexLock lock(&mutex_);
      // Nobody here asked for it: the engine ends what it has when it stops.
      return cancelled_.ok() ? absl::CancelledError("server: stopping") : cancelled_;
    }
    case FinishReason::kDeadline:
      return absl::DeadlineExceededError(delta.detail);
    case FinishReason::kError:
      return absl::InternalError(delta.detail);
    default:
      return absl::OkStatus();
  }
}

void Generation::AddTo(RequestRecord* record) const {
  if (record->answers == 0) {
    record->operation = is_chat_ ? "chat" : "text_completion";
    record->answer = record_;
    record->finish = FinishName(record_.finish);
    record->submitted = submitted_;
  } else {
    record->answer.prompt_tokens += record_.prompt_tokens;
    record->answer.cached_prompt_tokens += record_.cached_prompt_tokens;
    record->answer.completion_tokens += record_.completion_tokens;
  }
  record->answers += answers();
  for (const Answer& answer : answers_) record->finishes.push_back(FinishName(answer.finish));
}

void Generation::Cancel(absl::Status why) {
  absl::MutexLock lock(&mutex_);
  if (!cancelled_.ok() || backlog_.complete) return;
  cancelled_ = std::move(why);
  model_->engine().Cancel(request_id_);
}

Generation::Backlog Generation::backlog() const {
  absl::MutexLock lock(&mutex_);
  return backlog_;
}

}  // namespace pregate
