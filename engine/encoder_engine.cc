// The loop of an encoder: admit, expire, take a step's texts, run them, hand out what they became.
// A text is in one step only, so there is nothing to remember between steps but who waits.
#include "engine/encoder_engine.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/backend_choice.h"
#include "engine/engine_setup.h"
#include "engine/intake.h"
#include "engine/model/encoder.h"
#include "engine/plan/encoding_queue.h"

namespace pregate {
namespace {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

constexpr int32_t kDefaultMaxLength = 8192;
// Prompt tokens that may wait where no flag says how many: so many full steps.
constexpr int64_t kQueuedSteps = 1024;
// A text that would be late after so many steps goes first.
constexpr double kUrgentSteps = 2;

double Seconds(Time time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

struct EncoderSetup {
  std::unique_ptr<Device> device;
  std::unique_ptr<ModelFile> file;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Encoder> encoder;
  EncodingQueueConfig queue;
  bool by_priority = false;
  ModelInfo info;
  int64_t max_queued_requests = 0;
  int64_t max_queued_tokens = 0;
};

// A text between Encode and its output.
struct Submitted {
  uint64_t id = 0;
  EncodingRequest request;
  EncodingCallback callback;
  Time time;
};

class EncoderEngine : public Engine {
 public:
  explicit EncoderEngine(EncoderSetup setup)
      : setup_(std::move(setup)),
        queue_(setup_.queue),
        intake_(setup_.max_queued_requests, setup_.max_queued_tokens),
        thread_([this] { Run(); }) {}

  ~EncoderEngine() override {
    {
      absl::MutexLock lock(&mutex_);
      intake_.Stop();
    }
    thread_.join();
  }

  const ModelInfo& model() const override { return setup_.info; }
  const Tokenizer& tokenizer() const override { return *setup_.tokenizer; }

  absl::StatusOr<uint64_t> Submit(GenerationRequest, OutputCallback) override {
    return absl::UnimplementedError("model: does not generate");
  }

  absl::StatusOr<uint64_t> Encode(EncodingRequest request, EncodingCallback callback) override {
    if (absl::Status status = ValidateRequest(request, setup_.info); !status.ok()) return status;
    const auto tokens = static_cast<int64_t>(request.ids.size());
    absl::MutexLock lock(&mutex_);
    if (absl::Status status = intake_.Take(1, tokens, request.continues); !status.ok()) {
      return status;
    }
    const uint64_t id = next_id_++;
    arrived_.push_back({id, std::move(request), std::move(callback), Clock::now()});
    return id;
  }

  void Cancel(uint64_t request_id) override {
    absl::MutexLock lock(&mutex_);
    cancelled_.push_back(request_id);
  }
  void CancelAnswer(uint64_t request_id, int32_t index) override {
    if (index == 0) Cancel(request_id);
  }

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
    EngineStats stats;
    stats.waiting = static_cast<int32_t>(intake_.queued());
    stats.running = static_cast<int32_t>(intake_.live() - intake_.queued());
    stats.steps = steps_;
    stats.last_step = last_step_;
    stats.draining = intake_.draining();
    return stats;
  }

  void SetStepObserver(std::function<void(const StepStats&)> observer) override {
    absl::MutexLock lock(&mutex_);
    step_observer_ = std::move(observer);
  }

 private:
  // --- The engine thread. Everything below runs on it alone. ---

  void Run() {
    while (Admit()) {
      Expire();
      Step();
    }
    std::vector<uint64_t> ids;
    for (const auto& [id, text] : texts_) ids.push_back(id);
    std::sort(ids.begin(), ids.end());
    for (const uint64_t id : ids) EndInQueue(id, absl::CancelledError("server: stopped"));
  }

  // Waits until there is something to do, then takes in what has arrived. False: stop.
  bool Admit() {
    std::vector<Submitted> arrived;
    std::vector<uint64_t> cancelled;
    bool stopping;
    {
      absl::MutexLock lock(&mutex_);
      if (queue_.empty()) mutex_.Await(absl::Condition(this, &EncoderEngine::HasCommands));
      stopping = intake_.stopping();
      arrived.swap(arrived_);
      cancelled.swap(cancelled_);
    }
    for (Submitted& text : arrived) Take(std::move(text));
    for (const uint64_t id : cancelled) {
      if (queue_.Cancel(id)) EndInQueue(id, absl::CancelledError("request: cancelled"));
    }
    return !stopping;
  }

  bool HasCommands() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return intake_.stopping() || !arrived_.empty() || !cancelled_.empty();
  }

  void Take(Submitted submitted) {
    const EncodingRequest& request = submitted.request;
    const absl::Duration left = request.deadline - absl::Now();
    EncodingQueue::Text text = {.id = submitted.id,
                                .tokens = static_cast<int64_t>(request.ids.size()),
                                .priority = setup_.by_priority ? request.priority : 0};
    if (left < absl::InfiniteDuration()) {
      text.deadline = Seconds(Clock::now()) + absl::ToDoubleSeconds(left);
    }
    queue_.Add(text);
    texts_.emplace(submitted.id, std::move(submitted));
  }

  void Expire() {
    const Time now = Clock::now();
    for (const uint64_t id : queue_.TakeExpired(Seconds(now))) {
      const absl::Duration waited = absl::FromChrono(now - texts_.at(id).time);
      EndInQueue(
          id, absl::DeadlineExceededError(absl::StrCat("deadline: expired in queue after ",
                                                       absl::ToInt64Milliseconds(waited), " ms")));
    }
  }

  // Ends a text that no step has had, and which the queue has given up.
  void EndInQueue(uint64_t id, absl::Status status) {
    Submitted text = std::move(texts_.extract(id).mapped());
    LeaveQueue({&text});
    EncodingOutput output;
    output.status = std::move(status);
    output.queue = absl::FromChrono(Clock::now() - text.time);
    text.callback(std::move(output));
    text.callback = nullptr;
    absl::MutexLock lock(&mutex_);
    intake_.End(1);
  }

  void LeaveQueue(const std::vector<const Submitted*>& texts) {
    absl::MutexLock lock(&mutex_);
    for (const Submitted* text : texts) intake_.LeaveQueue(1, std::ssize(text->request.ids));
  }

  void Step() {
    const Time start = Clock::now();
    const std::vector<uint64_t> ids = queue_.TakeStep(Seconds(start), kUrgentSteps * step_seconds_);
    if (ids.empty()) return;
    EncoderBatch batch;
    std::vector<Submitted> texts;
    std::vector<const Submitted*> taken;
    texts.reserve(ids.size());
    for (const uint64_t id : ids) {
      texts.push_back(std::move(texts_.extract(id).mapped()));
      const EncodingRequest& request = texts.back().request;
      const bool stated = request.pooling != Pooling::kNone;
      batch.Add(request.ids, request.second_begin, stated ? request.pooling : setup_.info.pooling);
      taken.push_back(&texts.back());
    }
    LeaveQueue(taken);  // the queue has room again while the step runs
    const Time planned = Clock::now();
    const Tensor values = setup_.encoder->Forward(batch);
    const Time executed = Clock::now();
    HandOut(texts, values, start, executed);

    StepStats step;
    step.plan = absl::FromChrono(planned - start);
    step.execute = absl::FromChrono(executed - planned);
    step.commit = absl::FromChrono(Clock::now() - executed);
    step.rows = step.prompt_tokens = batch.rows();
    step.sequences = batch.texts();
    step_seconds_ = std::chrono::duration<double>(executed - start).count();
    if (step_observer_) step_observer_(step);
    // Last: who waits until nothing is left may take away what the observer uses.
    absl::MutexLock lock(&mutex_);
    intake_.End(std::ssize(texts));
    ++steps_;
    last_step_ = absl::Now();
  }

  void HandOut(std::vector<Submitted>& texts, ConstTensor values, Time start, Time end) {
    for (size_t i = 0; i < texts.size(); ++i) {
      EncodingOutput output;
      output.values.resize(static_cast<size_t>(values.cols));
      setup_.device->CopyToHost(output.values.data(), values.Row<float>(static_cast<int64_t>(i)),
                                output.values.size() * sizeof(float));
      output.queue = absl::FromChrono(start - texts[i].time);
      output.compute = absl::FromChrono(end - start);
      texts[i].callback(std::move(output));
      texts[i].callback = nullptr;
    }
  }

  EncoderSetup setup_;

  // The engine thread's own.
  EncodingQueue queue_;
  absl::flat_hash_map<uint64_t, Submitted> texts_;  // that wait
  double step_seconds_ = 0;                         // of the last step
  std::function<void(const StepStats&)> step_observer_;

  mutable absl::Mutex mutex_;
  Intake intake_ ABSL_GUARDED_BY(mutex_);  // of texts, which live until they have their output
  std::vector<Submitted> arrived_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> cancelled_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time last_step_ ABSL_GUARDED_BY(mutex_) = absl::Now();

  std::thread thread_;  // last: starts when everything above stands
};

ModelInfo DescribeEncoder(const EncoderSetup& setup, int32_t max_length) {
  const ModelConfig& config = setup.file->config();
  ModelInfo info = setup.info;  // has the device
  info.name = config.name;
  info.architecture = config.architecture;
  info.format = std::string(setup.file->format());
  info.num_parameters = setup.encoder->num_parameters();
  info.weight_bytes = setup.encoder->weight_bytes();
  info.context_length = config.context_length;
  info.max_model_len = max_length;
  info.max_prompt_tokens = max_length;
  info.vocab_size = setup.tokenizer->vocab_size();
  info.generates = false;
  info.embedding_size = config.encoder.scores ? 0 : config.hidden_size;
  info.pooling = config.encoder.scores ? Pooling::kCls : config.encoder.pooling;
  info.scores = config.encoder.scores;
  return info;
}

Encoder::Precision PrecisionOf(const std::string& dtype) {
  if (dtype == "float32") return Encoder::Precision::kFile;
  return dtype == "int8" ? Encoder::Precision::kInt8 : Encoder::Precision::kQ13;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> MakeEncoderEngine(
    std::unique_ptr<ModelFile> file, const EngineOptions& options,
    const std::function<void(double)>& progress) {
  const ModelConfig& config = file->config();
  if (absl::Status status = ValidateOptions(options, config); !status.ok()) return status;
  if (options.quantization != "none") {
    return absl::UnimplementedError(absl::StrCat(
        "quantization: must be none for an encoder, whose weights are as --dtype says; got ",
        options.quantization));
  }
  const absl::StatusOr<SchedulingPolicy> policy = ParsePolicy(options.scheduling_policy);
  if (!policy.ok()) return policy.status();
  absl::StatusOr<ChosenBackend> chosen = ChooseBackend(*file, options);
  if (!chosen.ok()) return chosen.status();
  EncoderSetup setup;
  setup.device = std::move(chosen->backend.device);
  setup.info.device = chosen->backend.description;
  setup.info.device_choice = chosen->why;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(file->tokenizer());
  if (!tokenizer.ok()) return tokenizer.status();
  setup.tokenizer = *std::move(tokenizer);

  // What the model was made for, though it may have more positions.
  const int32_t own =
      config.encoder.max_length > 0 ? config.encoder.max_length : config.context_length;
  const int32_t max_length =
      options.max_model_len > 0 ? options.max_model_len : std::min(own, kDefaultMaxLength);
  Encoder::Options encoder_options;
  encoder_options.max_rows = std::max(options.max_num_batched_tokens, max_length);
  encoder_options.max_texts = options.max_num_seqs;
  encoder_options.precision = PrecisionOf(options.dtype);
  encoder_options.progress = progress;
  absl::StatusOr<std::unique_ptr<Encoder>> encoder =
      Encoder::Create(*file, setup.device.get(), chosen->backend.kernels, encoder_options);
  if (!encoder.ok()) return encoder.status();
  setup.encoder = *std::move(encoder);

  setup.queue.max_tokens = options.max_num_batched_tokens;
  setup.queue.max_texts = options.max_num_seqs;
  setup.by_priority = *policy == SchedulingPolicy::kPriority;
  setup.max_queued_requests = options.max_num_queued_reqs;
  // By default a text that can be served is never one that must come back for ever.
  setup.max_queued_tokens =
      options.max_num_queued_tokens > 0
          ? options.max_num_queued_tokens
          : std::max<int64_t>(kQueuedSteps * options.max_num_batched_tokens, max_length);
  setup.file = std::move(file);
  setup.info = DescribeEncoder(setup, max_length);
  if (progress) progress(1.0);
  return std::make_unique<EncoderEngine>(std::move(setup));
}

}  // namespace pregate
