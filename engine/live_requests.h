// LiveRequests: what the engine thread remembers of each request between submission and its last
// output. It turns the scheduler's events, which speak of ids, into outputs for clients.
#ifndef PREGATE_ENGINE_LIVE_REQUESTS_H_
#define PREGATE_ENGINE_LIVE_REQUESTS_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/hidden_pooling.h"
#include "engine/model/sampler.h"
#include "engine/plan/batch_plan.h"
#include "engine/plan/scheduler.h"

namespace pregate {

using SteadyTime = std::chrono::steady_clock::time_point;

// A request on its way from Submit to the engine thread.
struct Submission {
  uint64_t id = 0;
  GenerationRequest request;
  OutputCallback callback;
  std::shared_ptr<HiddenPooling> pooling;  // of a text that is read for its vector, else null
  SteadyTime submitted;
  SteadyTime deadline;     // max(): none
  bool continues = false;  // a call that was accepted: not refused while draining
};

class LiveRequests {
 public:
  // The answers of a request are sequences: ids request * kMaxAnswers + index.
  static constexpr uint64_t kMaxAnswers = 16;

  // One answer in progress.
  struct Answer {
    std::shared_ptr<Submission> of;  // shared by the answers of a request
    int32_t index = 0;
    std::vector<int32_t> generated;
    std::vector<PositionLogprobs> prompt_logprobs;
    int32_t cached_tokens = 0;
    bool admitted = false;
    SteadyTime first_step, first_token, last_token;
    absl::Duration pregate, expert_stall;
    uint64_t experts_met = 0;  // bit e: expert e

    const std::vector<int32_t>& prompt() const { return of->request.prompt; }
    const SamplingParams& sampling() const { return of->request.sampling[index]; }
  };

  // Remembers a submission; returns one scheduler request for each of its answers.
  // `model_stop_ids` join the request's own unless it ignores them.
  std::vector<Request> Open(Submission submission, absl::Span<const int32_t> model_stop_ids);

  // The scheduler took the sequence up.
  const Answer& Admitted(const Admission& admission, SteadyTime now);

  // Log-probabilities of prompt tokens that the step has scored.
  void AddPromptScores(const BatchPlan& plan, absl::Span<const SequenceId> slot_owner,
                       const SampledTokens& sampled);

  // Whether some text is read for its vector; then what the plan's logit rows were before the head,
  // [logits, size].
  bool reads_texts() const { return texts_ > 0; }
  void AddHidden(const BatchPlan& plan, absl::Span<const SequenceId> slot_owner,
                 absl::Span<const float> hidden, int64_t size);

  // Rows of the plan that compute prompt tokens.
  int32_t CountPromptRows(const BatchPlan& plan, absl::Span<const SequenceId> slot_owner) const;

  // The plan's rows were routed, in `took`.
  void AddPregate(const BatchPlan& plan, absl::Span<const SequenceId> slot_owner,
                  absl::Duration took);
  // The plan's rows ran with its experts; the step has waited `stall` for their weights.
  void AddExperts(const BatchPlan& plan, absl::Span<const SequenceId> slot_owner,
                  absl::Duration stall);

  // Why the step that is about to fail does.
  void SetStepError(const absl::Status& why) { step_error_ = std::string(why.message()); }

  // Writes what the event tells its client, for Send, and forgets the answer if it ends: how many
  // tokens. `sampled` is that of the step the event came from, null for events outside a step.
  int32_t Write(const SequenceEvent& event, const SampledTokens* sampled, SteadyTime now);
  // Hands out everything that was written.
  void Send();

  // Sequences of a request that are still running, of all its answers or of one; empty when it is
  // not known (any more).
  std::vector<SequenceId> SequencesOf(uint64_t request_id, std::optional<int32_t> index) const;
  // Sequences whose deadline has passed.
  std::vector<SequenceId> Expired(SteadyTime now) const;
  std::vector<SequenceId> All() const;

  // Nobody waits for anything.
  bool empty() const { return answers_.empty() && written_.empty(); }

  // Answers that left the queue (taken up, or ended while waiting) or whose end was sent since the
  // last call.
  struct Departures {
    int64_t queued_answers = 0;
    int64_t queued_tokens = 0;
    int64_t ended_answers = 0;
  };
  Departures TakeDepartures() { return std::exchange(departures_, {}); }

 private:
  void LeaveQueue(const Answer& answer);
  static void AddToken(const SequenceEvent& event, const SampledTokens& sampled, Answer* answer,
                       GenerationOutput* output);
  void FillFinish(const Answer& answer, FinishReason reason, SteadyTime now,
                  GenerationOutput* output) const;

  struct Written {
    std::shared_ptr<Submission> to;
    GenerationOutput output;
  };

  absl::flat_hash_map<SequenceId, Answer> answers_;
  std::vector<Written> written_;  // in the order of the events
  absl::btree_set<std::pair<SteadyTime, SequenceId>> deadlines_;
  int64_t texts_ = 0;  // answers that are texts read for their vectors
  Departures departures_;
  std::string step_error_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_LIVE_REQUESTS_H_
