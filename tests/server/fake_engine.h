// An Engine whose state a test sets; it answers nothing.
#ifndef PREGATE_TESTS_SERVER_FAKE_ENGINE_H_
#define PREGATE_TESTS_SERVER_FAKE_ENGINE_H_

#include <functional>

#include "engine/engine.h"

namespace pregate {

class FakeEngine : public Engine {
 public:
  ModelInfo model_info;
  EngineStats engine_stats;

  const ModelInfo& model() const override { return model_info; }
  const Tokenizer& tokenizer() const override { std::abort(); }
  absl::StatusOr<uint64_t> Submit(GenerationRequest, OutputCallback) override {
    return absl::UnimplementedError("engine: a fake");
  }
  absl::StatusOr<uint64_t> Encode(EncodingRequest, EncodingCallback) override {
    return absl::UnimplementedError("engine: a fake");
  }
  void Cancel(uint64_t) override {}
  void CancelAnswer(uint64_t, int32_t) override {}
  void StartDrain() override {}
  bool WaitUntilIdle(absl::Duration) override { return true; }
  EngineStats stats() const override { return engine_stats; }
  void SetStepObserver(std::function<void(const StepStats&)>) override {}
};

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_FAKE_ENGINE_H_
