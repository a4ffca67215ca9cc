#include "load_tests/paced_server/paced_engine.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace pregate {
namespace {

constexpr int32_t kContext = 8192;
constexpr int32_t kBlockTokens = 16;

}  // namespace

PacedEngine::PacedEngine(std::unique_ptr<Tokenizer> tokenizer, std::chrono::microseconds beat)
    : tokenizer_(std::move(tokenizer)), beat_(beat), last_beat_(absl::Now()) {
  info_.name = "paced";
  info_.architecture = "none";
  info_.format = "none";
  info_.device = "none";
  info_.context_length = info_.max_model_len = kContext;
  info_.vocab_size = tokenizer_->vocab_size();
  info_.max_prompt_tokens = kContext - 2;
  info_.block_tokens = kBlockTokens;
  info_.kv_blocks = kContext / kBlockTokens;
  thread_ = std::thread([this] { Run(); });
}

PacedEngine::~PacedEngine() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

absl::StatusOr<uint64_t> PacedEngine::Submit(GenerationRequest request, OutputCallback callback) {
  if (absl::Status status = ValidateRequest(request, info_); !status.ok()) return status;
  const auto shared = std::make_shared<OutputCallback>(std::move(callback));
  const auto prompt_tokens = static_cast<int32_t>(request.prompt.size());
  const auto answers = static_cast<int32_t>(request.sampling.size());
  absl::MutexLock lock(&mutex_);
  if (draining_) return absl::UnavailableError("server: draining; try another replica");
  for (int32_t i = 0; i < answers; ++i) {
    submitted_.push_back({next_id_, i, prompt_tokens, request.max_tokens, 0, shared});
  }
  live_ += answers;
  return next_id_++;
}

absl::StatusOr<uint64_t> PacedEngine::Encode(EncodingRequest /*request*/, EncodingCallback) {
  return absl::UnimplementedError("model: does not embed");
}

void PacedEngine::Cancel(uint64_t request_id) { CancelAnswer(request_id, -1); }

void PacedEngine::CancelAnswer(uint64_t request_id, int32_t index) {
  absl::MutexLock lock(&mutex_);
  cancelled_.push_back({request_id, index});
}

void PacedEngine::StartDrain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
}

bool PacedEngine::WaitUntilIdle(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  auto idle = +[](int64_t* live) { return *live == 0; };
  return mutex_.AwaitWithTimeout(absl::Condition(idle, &live_), timeout);
}

EngineStats PacedEngine::stats() const {
  absl::MutexLock lock(&mutex_);
  EngineStats stats;
  stats.running = static_cast<int32_t>(live_);
  stats.kv_blocks = info_.kv_blocks;
  stats.block_tokens = info_.block_tokens;
  stats.steps = beats_;
  stats.last_step = last_beat_;
  stats.draining = draining_;
  return stats;
}

void PacedEngine::SetStepObserver(std::function<void(const StepStats&)> observer) {
  absl::MutexLock lock(&mutex_);
  observer_ = std::move(observer);
}

// Beats come at fixed times: a late one does not shift those after it.
void PacedEngine::Run() {
  const auto start = std::chrono::steady_clock::now();
  std::vector<Answer> answers;
  for (int64_t beat = 1;; ++beat) {
    std::this_thread::sleep_until(start + beat * beat_);
    Admit(&answers);
    StepStats step;
    step.rows = step.sequences = step.generated_tokens = static_cast<int32_t>(answers.size());
    for (Answer& answer : answers) Give(&answer);
    const size_t ended = std::erase_if(answers, [](const Answer& a) { return !a.callback; });

    absl::MutexLock lock(&mutex_);
    live_ -= static_cast<int64_t>(ended);
    ++beats_;
    last_beat_ = absl::Now();
    if (observer_) observer_(step);
    if (stopping_) return;
  }
}

void PacedEngine::Admit(std::vector<Answer>* answers) {
  absl::MutexLock lock(&mutex_);
  answers->insert(answers->end(), submitted_.begin(), submitted_.end());
  submitted_.clear();
  for (const Cancellation& one : cancelled_) {
    for (Answer& answer : *answers) {
      const bool named = one.index < 0 || one.index == answer.index;
      if (answer.request_id == one.request_id && named) answer.left = 0;
    }
  }
  cancelled_.clear();
}

void PacedEngine::Give(Answer* answer) {
  GenerationOutput output;
  output.index = answer->index;
  if (answer->left > 0) {
    output.token_ids.push_back('a' + answer->given % 26);
    ++answer->given;
    if (--answer->left == 0) output.finish = FinishReason::kLength;
  } else {
    output.finish = FinishReason::kCancelled;
  }
  if (output.finish == FinishReason::kNone) return (*answer->callback)(std::move(output));
  output.prompt_tokens = answer->prompt_tokens;
  output.completion_tokens = answer->given;
  (*answer->callback)(std::move(output));
  answer->callback = nullptr;
}

}  // namespace pregate
