// PacedEngine: gives every answer one token at each beat of a clock and computes nothing, so that
// what clients see beyond the beat is the front doors' own.
#ifndef PREGATE_LOAD_TESTS_PACED_SERVER_PACED_ENGINE_H_
#define PREGATE_LOAD_TESTS_PACED_SERVER_PACED_ENGINE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "engine/engine.h"

namespace pregate {

// Answers to a request are letters, one at each beat from the next one on, up to `max_tokens`.
class PacedEngine : public Engine {
 public:
  PacedEngine(std::unique_ptr<Tokenizer> tokenizer, std::chrono::microseconds beat);
  ~PacedEngine() override;

  const ModelInfo& model() const override { return info_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  absl::StatusOr<uint64_t> Submit(GenerationRequest request, OutputCallback callback) override;
  absl::StatusOr<uint64_t> Encode(EncodingRequest request, EncodingCallback callback) override;
  void Cancel(uint64_t request_id) override;
  void CancelAnswer(uint64_t request_id, int32_t index) override;
  void StartDrain() override;
  bool WaitUntilIdle(absl::Duration timeout) override;
  EngineStats stats() const override;
  void SetStepObserver(std::function<void(const StepStats&)> observer) override;

 private:
  struct Answer {
    uint64_t request_id;
    int32_t index;
    int32_t prompt_tokens;
    int32_t left;  // tokens
    int32_t given = 0;
    std::shared_ptr<OutputCallback> callback;  // null: it has ended
  };
  struct Cancellation {
    uint64_t request_id;
    int32_t index;  // of the answer; -1: all
  };

  void Run();
  // Takes in what has come since the last beat.
  void Admit(std::vector<Answer>* answers);
  static void Give(Answer* answer);

  const std::unique_ptr<Tokenizer> tokenizer_;
  const std::chrono::microseconds beat_;
  ModelInfo info_;

  // Never held while a callback runs: those take locks that are held around Cancel.
  mutable absl::Mutex mutex_;
  std::vector<Answer> submitted_ ABSL_GUARDED_BY(mutex_);
  std::vector<Cancellation> cancelled_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t live_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t beats_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time last_beat_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void(const StepStats&)> observer_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_PACED_SERVER_PACED_ENGINE_H_
