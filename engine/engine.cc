// The step loop: admit, pre-gate, plan, execute, sample, commit, stream. Only the order of the
// phases lives here; what each phase does is another file's business.
#include "engine/engine.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <deque>
#include <iterator>
#include <optional>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/encoder_engine.h"
#include "engine/engine_setup.h"
#include "engine/engine_stats.h"
#include "engine/hidden_pooling.h"
#include "engine/intake.h"
#include "engine/live_requests.h"
#include "engine/traced_scheduler.h"

namespace pregate {
namespace {

using Clock = std::chrono::steady_clock;

// Commands looked at before a step: a burst must not delay those who are running.
constexpr size_t kMaxCommandsPerStep = 256;

// Deadlines beyond this are none: adding them to a clock could overflow it.
constexpr absl::Duration kLongestDeadline = absl::Hours(24 * 365);

SteadyTime ToSteady(absl::Time deadline, SteadyTime now) {
  const absl::Duration left = deadline - absl::Now();
  if (left > kLongestDeadline) return SteadyTime::max();
  return now + absl::ToChronoNanoseconds(std::max(left, absl::ZeroDuration()));
}

struct Cancellation {
  uint64_t request_id;
  std::optional<int32_t> index;  // of the answer; none: all of them
};
using Command = std::variant<Submission, Cancellation>;

class StepEngine : public Engine {
 public:
  explicit StepEngine(EngineSetup setup)
      : setup_(std::move(setup)),
        scheduler_(setup_.scheduler_config, setup_.trace.get()),
        slot_owner_(setup_.scheduler_config.max_num_seqs),
        intake_(setup_.max_queued_requests, setup_.max_queued_tokens),
        thread_([this] { Run(); }) {}

  ~StepEngine() override {
    {
      absl::MutexLock lock(&mutex_);
      intake_.Stop();
    }
    thread_.join();
  }

  const ModelInfo& model() const override { return setup_.info; }
  const Tokenizer& tokenizer() const override { return *setup_.tokenizer; }

  absl::StatusOr<uint64_t> Submit(GenerationRequest request, OutputCallback callback) override {
    if (absl::Status status = ValidateRequest(request, setup_.info); !status.ok()) return status;
    const SteadyTime now = Clock::now();
    Submission submission;
    submission.submitted = now;
    submission.deadline = ToSteady(request.deadline, now);
    request.max_tokens = std::min(request.max_tokens, RoomAfter(request.prompt.size()));
    submission.request = std::move(request);
    submission.callback = std::move(callback);
    return Queue(std::move(submission));
  }

  // A text is a prompt of which the hidden states are taken, in the same steps as all others.
  absl::StatusOr<uint64_t> Encode(EncodingRequest request, EncodingCallback callback) override {
    if (absl::Status status = ValidateRequest(request, setup_.info); !status.ok()) return status;
    if (std::ssize(request.ids) >= setup_.info.max_model_len) {  // of a context of 1 or 2 tokens
      return absl::InvalidArgumentError(absl::StrCat("input_tokens: must be fewer than ",
                                                     setup_.info.max_model_len, "; got ",
                                                     request.ids.size()));
    }
    const bool stated = request.pooling != Pooling::kNone;
    auto pooling = std::make_shared<HiddenPooling>(stated ? request.pooling : setup_.info.pooling);
    const SteadyTime now = Clock::now();
    Submission submission;
    submission.submitted = now;
    submission.deadline = ToSteady(request.deadline, now);
    submission.continues = request.continues;
    submission.request = RequestOf(std::move(request), *pooling);
    submission.pooling = pooling;
    submission.callback = [pooling, callback = std::move(callback)](GenerationOutput output) {
      if (output.finish != FinishReason::kNone) callback(OutputOf(output, pooling.get()));
    };
    return Queue(std::move(submission));
  }

  void Cancel(uint64_t request_id) override { Enqueue({request_id, std::nullopt}); }

  void CancelAnswer(uint64_t request_id, int32_t index) override { Enqueue({request_id, index}); }

  void StartDrain() override {
    absl::MutexLock lock(&mutex_);
    intake_.StartDrain();
  }

  bool WaitUntilIdle(absl::Duration timeout) override {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&intake_, &Intake::idle), timeout);
  }

  EngineStats stats() const override {
    absl::MutexLock lock(&mutex_);
    EngineStats stats = stats_;
    for (const Command& command : inbox_) {
      stats.waiting += std::holds_alternative<Submission>(command);
    }
    stats.draining = intake_.draining();
    return stats;
  }

  void SetStepObserver(std::function<void(const StepStats&)> observer) override {
    absl::MutexLock lock(&mutex_);
    step_observer_ = std::move(observer);
  }

 private:
  absl::StatusOr<uint64_t> Queue(Submission submission) {
    const int64_t answers = static_cast<int64_t>(submission.request.sampling.size());
    const int64_t tokens = answers * static_cast<int64_t>(submission.request.prompt.size());
    absl::MutexLock lock(&mutex_);
    if (absl::Status status = intake_.Take(answers, tokens, submission.continues); !status.ok()) {
      return status;
    }
    const uint64_t id = submission.id = next_request_id_++;
    inbox_.push_back(std::move(submission));
    return id;
  }

  void Enqueue(Cancellation cancellation) {
    absl::MutexLock lock(&mutex_);
    inbox_.push_back(cancellation);
  }

  // Tokens that an answer to a prompt may have: the context, and the pool, end it with kLength.
  int32_t RoomAfter(size_t prompt_size) const {
    const int64_t pool = static_cast<int64_t>(setup_.info.kv_blocks) * setup_.info.block_tokens;
    const int64_t longest = std::min<int64_t>(setup_.info.max_model_len, pool);
    return static_cast<int32_t>(longest - static_cast<int64_t>(prompt_size));
  }

  // --- The engine thread. Everything below runs on it alone. ---

  void Run() {
    Publish();  // whoever looks before the first step sees what there is
    while (Admit()) {
      ExpireDeadlines();
      Stream(nullptr);  // what was cancelled between steps
      Step();
      Publish();
    }
    for (SequenceId id : live_requests_.All()) scheduler_.Cancel(id, FinishReason::kCancelled);
    Stream(nullptr);
    live_requests_.Send();
    Publish();
  }

  // Waits until there is something to do, then moves the inbox into the scheduler. False: stop.
  bool Admit() {
    std::vector<Command> commands;
    bool stopping;
    {
      absl::MutexLock lock(&mutex_);
      if (live_requests_.empty()) mutex_.Await(absl::Condition(this, &StepEngine::HasCommands));
      stopping = intake_.stopping();
      const size_t count =
          stopping ? inbox_.size() : std::min<size_t>(inbox_.size(), kMaxCommandsPerStep);
      commands.assign(std::make_move_iterator(inbox_.begin()),
                      std::make_move_iterator(inbox_.begin() + count));
      inbox_.erase(inbox_.begin(), inbox_.begin() + count);
    }
    for (Command& command : commands) std::visit([this](auto& c) { Apply(c); }, command);
    return !stopping;
  }

  void Apply(Submission& submission) {
    for (Request& request :
         live_requests_.Open(std::move(submission), setup_.tokenizer->stop_ids())) {
      // Submit has kept the bounds of the scheduler's queue, ValidateRequest that of the pool.
      const AddResult added = scheduler_.Add(std::move(request));
      assert(added == AddResult::kOk);
      static_cast<void>(added);
    }
  }

  void Apply(const Cancellation& cancellation) {
    for (SequenceId id : live_requests_.SequencesOf(cancellation.request_id, cancellation.index)) {
      scheduler_.Cancel(id, FinishReason::kCancelled);
    }
  }

  bool HasCommands() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return intake_.stopping() || !inbox_.empty();
  }

  void ExpireDeadlines() {
    for (SequenceId id : live_requests_.Expired(Clock::now())) {
      scheduler_.Cancel(id, FinishReason::kDeadline);
    }
  }

  void Step() {
    const SteadyTime start = Clock::now();
    SettleLoads();
    if (setup_.router) PreGate(start);
    const SteadyTime routed = Clock::now();
    const BatchPlan plan = scheduler_.Plan();
    if (!setup_.router) OpenSlots(start);
    Publish();  // the queue has room again while the step runs
    if (plan.empty()) return live_requests_.Send();
    const SteadyTime planned = Clock::now();
    StepStats step;
    const absl::StatusOr<Tensor> logits = Execute(plan);
    if (!logits.ok()) return Fail(plan, logits.status());
    const SteadyTime executed = Clock::now();
    live_requests_.Send();
    const SampledTokens sampled = setup_.sampler->Sample(plan, *logits);
    // Sampling has waited for the device; so does the model of cost, which learns from this time.
    if (setup_.router && plan.logits() == 0) setup_.device->Synchronize();
    const ExpertStore::Stall stall = FinishLoads();
    step.expert_stall = stall.time;
    step.expert_stall_copying = stall.copying;
    const SteadyTime drawn = Clock::now();

    step.rows = plan.rows();
    step.sequences = plan.sequences();
    step.prompt_tokens = live_requests_.CountPromptRows(plan, slot_owner_);
    live_requests_.AddPromptScores(plan, slot_owner_, sampled);
    if (live_requests_.reads_texts()) AddHidden(plan);
    if (setup_.router) {
      live_requests_.AddExperts(plan, slot_owner_, step.expert_stall);
      step.expert_batching = expert_batching_;
      step.expert_rows = CountByExpert(plan, setup_.scheduler_config.experts.num_experts);
    }
    scheduler_.Commit(plan, sampled.token_ids,
                      {.seconds = std::chrono::duration<double>(drawn - start).count(),
                       .stall = absl::ToDoubleSeconds(step.expert_stall)});
    step.generated_tokens = Stream(&sampled);

    step.pregate = absl::FromChrono(routed - start);
    step.plan = absl::FromChrono(planned - routed);
    step.execute = absl::FromChrono(executed - planned);
    step.sample = absl::FromChrono(drawn - executed);
    step.commit = absl::FromChrono(Clock::now() - drawn);
    ++steps_;
    last_step_ = absl::Now();
    if (step_observer_) step_observer_(step);
  }

  // Names the experts of every token that has none yet: of prompts taken up, and of what the last
  // step has sampled. So the plan knows what each of its rows needs, in all layers at once.
  void PreGate(SteadyTime start) {
    scheduler_.Admit();
    OpenSlots(start);
    const BatchPlan rows = scheduler_.Unrouted();
    if (rows.empty()) return;
    setup_.router->Route(rows, *setup_.kv, &expert_ids_);
    scheduler_.Routed(rows, expert_ids_);
    live_requests_.AddPregate(rows, slot_owner_, absl::FromChrono(Clock::now() - start));
  }

  // Gives the hidden states of the step to the texts that are read for theirs.
  void AddHidden(const BatchPlan& plan) {
    const ConstTensor hidden = setup_.transformer->logit_hidden();
    std::vector<float> host(static_cast<size_t>(hidden.rows * hidden.cols));
    setup_.device->CopyToHost(host.data(), hidden.data, host.size() * sizeof(float));
    live_requests_.AddHidden(plan, slot_owner_, host, hidden.cols);
  }

  // Runs the plan, while what it loads comes in.
  absl::StatusOr<Tensor> Execute(const BatchPlan& plan) {
    ExpertStore* const store = setup_.transformer->expert_store();
    if (store != nullptr) store->Start(plan);
    return setup_.transformer->Forward(plan, *setup_.kv);
  }

  // Once the device has been waited for: what the step has stood still is known only then.
  ExpertStore::Stall FinishLoads() {
    ExpertStore* const store = setup_.transformer->expert_store();
    if (store == nullptr) return {};
    const ExpertStore::Stall stall = store->FinishStep();
    SettleLoads();
    return stall;
  }

  // Tells the scheduler which loads have ended. What could not be read is absent again.
  void SettleLoads() {
    ExpertStore* const store = setup_.transformer->expert_store();
    if (store == nullptr) return;
    for (const ExpertStore::Ending& ending : store->TakeEndings()) {
      if (ending.ok) {
        scheduler_.UnitLoaded(ending.unit, absl::ToDoubleSeconds(ending.reading));
      } else {
        store->Evict(ending.unit);
        scheduler_.UnitFailed(ending.unit);
      }
    }
  }

  // The step did not run: its answers end, the others are untouched.
  void Fail(const BatchPlan& plan, const absl::Status& why) {
    FinishLoads();
    live_requests_.SetStepError(why);
    scheduler_.Fail(plan);
    Stream(nullptr);
    live_requests_.Send();
  }

  // Binds slots to the sequences that were just taken up.
  void OpenSlots(SteadyTime now) {
    for (const Admission& admission : scheduler_.admissions()) {
      const LiveRequests::Answer& answer = live_requests_.Admitted(admission, now);
      slot_owner_[admission.slot] = admission.id;
      SamplingParams sampling = answer.sampling();
      // Of a text that is read for its rows' hidden states nobody wants to know how likely it is.
      if (answer.of->pooling == nullptr) {
        sampling.logprobs = std::max(sampling.logprobs, answer.of->request.prompt_logprobs);
      }
      setup_.sampler->Open(admission.slot, sampling, answer.prompt(), answer.generated);
    }
  }

  // Hands the scheduler's events to the clients: how many tokens. Slots are closed before the next
  // Plan may give them to somebody else. Where a device of its own runs the steps, clients are told
  // of one while it is busy with the next: Execute has only queued that.
  int32_t Stream(const SampledTokens* sampled) {
    const SteadyTime now = Clock::now();
    int32_t tokens = 0;
    for (const SequenceEvent& event : scheduler_.TakeEvents()) {
      if (event.finish != FinishReason::kNone && event.slot >= 0) {
        setup_.sampler->Close(event.slot);
      }
      tokens += live_requests_.Write(event, sampled, now);
    }
    if (setup_.device->host_memory()) live_requests_.Send();
    return tokens;
  }

  // Makes the state of this moment known to the other threads, all of it at once: who sees that
  // nothing is left to do also sees that nothing is running.
  void Publish() {
    const SchedulerStats now = scheduler_.stats();
    expert_batching_ = Explain(now.experts.batching);
    const LiveRequests::Departures gone = live_requests_.TakeDepartures();
    absl::MutexLock lock(&mutex_);
    intake_.LeaveQueue(gone.queued_answers, gone.queued_tokens);
    intake_.End(gone.ended_answers);
    FillStats(now, setup_.scheduler_config, &stats_);
    stats_.steps = steps_;
    stats_.last_step = last_step_;
  }

  EngineSetup setup_;

  // The engine thread's own.
  TracedScheduler scheduler_;
  LiveRequests live_requests_;
  std::vector<SequenceId> slot_owner_;  // [max_num_seqs]
  std::vector<int32_t> expert_ids_;     // [rows] that the router has named last
  const char* expert_batching_ = "";    // as of the newest plan
  int64_t steps_ = 0;
  absl::Time last_step_ = absl::Now();
  std::function<void(const StepStats&)> step_observer_;

  mutable absl::Mutex mutex_;
  Intake intake_ ABSL_GUARDED_BY(mutex_);  // of answers
  std::deque<Command> inbox_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_request_id_ ABSL_GUARDED_BY(mutex_) = 1;
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace

std::unique_ptr<Engine> MakeEngine(EngineSetup setup) {
  return std::make_unique<StepEngine>(std::move(setup));
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const std::string& model_path, const EngineOptions& options,
    const std::function<void(double)>& progress) {
  absl::StatusOr<std::unique_ptr<ModelFile>> file = OpenServedModel(model_path, options);
  if (!file.ok()) return file.status();
  if ((*file)->config().encoder.present) {
    return MakeEncoderEngine(*std::move(file), options, progress);
  }
  absl::StatusOr<EngineSetup> setup = SetUpEngine(*std::move(file), options, progress);
  if (!setup.ok()) return setup.status();
  return MakeEngine(*std::move(setup));
}

}  // namespace pregate
