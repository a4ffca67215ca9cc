// Drives an engine from a test: ask, wait, compare.
#ifndef PREGATE_TESTS_ENGINE_ENGINE_HARNESS_H_
#define PREGATE_TESTS_ENGINE_ENGINE_HARNESS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/engine.h"

namespace pregate {

// What one answer has given so far.
struct Answer {
  std::vector<int32_t> tokens;
  std::vector<PositionLogprobs> logprobs;
  std::vector<PositionLogprobs> prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
  int finishes = 0;      // must end at 1
  int after_finish = 0;  // outputs after the end: must stay 0
  GenerationOutput last;
};

// Collects the answers of one request. Lives until the engine has dropped its callback.
class Collector {
 public:
  explicit Collector(int answers) : answers_(answers) {}

  OutputCallback Callback() {
    return [this](GenerationOutput output) { Collect(std::move(output)); };
  }

  // Waits until every answer has ended; false after `timeout`.
  bool Wait(absl::Duration timeout = absl::Seconds(120)) {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(this, &Collector::Done), timeout);
  }
  // Waits until answer 0 has `count` tokens (or has ended).
  bool WaitForTokens(size_t count, absl::Duration timeout = absl::Seconds(120)) {
    absl::MutexLock lock(&mutex_);
    wanted_tokens_ = count;
    return mutex_.AwaitWithTimeout(absl::Condition(this, &Collector::HasTokens), timeout);
  }

  std::vector<Answer> answers() const {
    absl::MutexLock lock(&mutex_);
    return answers_;
  }

 private:
  void Collect(GenerationOutput output) {
    absl::MutexLock lock(&mutex_);
    Answer& answer = answers_.at(output.index);
    if (answer.finish != FinishReason::kNone) ++answer.after_finish;
    answer.tokens.insert(answer.tokens.end(), output.token_ids.begin(), output.token_ids.end());
    answer.logprobs.insert(answer.logprobs.end(), output.logprobs.begin(), output.logprobs.end());
    if (!output.prompt_logprobs.empty()) answer.prompt_logprobs = output.prompt_logprobs;
    if (output.finish != FinishReason::kNone) {
      answer.finish = output.finish;
      ++answer.finishes;
      ++done_;
    }
    answer.last = std::move(output);
  }
  bool Done() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return done_ >= static_cast<int>(answers_.size());
  }
  bool HasTokens() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return answers_[0].tokens.size() >= wanted_tokens_ || Done();
  }

  mutable absl::Mutex mutex_;
  std::vector<Answer> answers_ ABSL_GUARDED_BY(mutex_);
  size_t wanted_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  int done_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A greedy request for `max_tokens` tokens after `prompt`, end of text ignored.
inline GenerationRequest GreedyRequest(std::vector<int32_t> prompt, int32_t max_tokens) {
  GenerationRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  request.sampling.resize(1);
  request.sampling[0].temperature = 0.0f;
  return request;
}

// Submits, waits, returns the answers. Aborts the test when the engine refuses.
inline std::vector<Answer> Ask(Engine& engine, GenerationRequest request) {
  Collector collector(static_cast<int>(request.sampling.size()));
  const absl::StatusOr<uint64_t> id = engine.Submit(std::move(request), collector.Callback());
  if (!id.ok()) {
    fprintf(stderr, "Submit: %s\n", std::string(id.status().message()).c_str());
    abort();
  }
  if (!collector.Wait()) {
    fprintf(stderr, "no answer in time\n");
    abort();
  }
  return collector.answers();
}

}  // namespace pregate

#endif  // PREGATE_TESTS_ENGINE_ENGINE_HARNESS_H_
