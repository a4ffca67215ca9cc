#include "server/generation/warm_up.h"

#include <gtest/gtest.h>

#include <thread>
#include <utility>
#include <vector>

#include "tests/server/fake_engine.h"
#include "tests/server/random_server.h"

namespace pregate {
namespace {

// Ends what it is given on a thread of its own, as a test says.
class FirstStepEngine : public FakeEngine {
 public:
  ~FirstStepEngine() override {
    if (thread_.joinable()) thread_.join();
  }

  std::vector<GenerationOutput> outputs;
  absl::Status encoded;
  GenerationRequest generation;
  EncodingRequest encoding;

  absl::StatusOr<uint64_t> Submit(GenerationRequest request, OutputCallback callback) override {
    generation = std::move(request);
    thread_ = std::thread([this, callback = std::move(callback)] {
      for (const GenerationOutput& output : outputs) callback(output);
    });
    return 1;
  }
  absl::StatusOr<uint64_t> Encode(EncodingRequest request, EncodingCallback callback) override {
    encoding = std::move(request);
    thread_ = std::thread([this, callback = std::move(callback)] {
      EncodingOutput output;
      output.status = encoded;
      callback(output);
    });
    return 1;
  }

 private:
  std::thread thread_;
};

GenerationOutput Output(FinishReason finish, const std::string& detail = "") {
  GenerationOutput output;
  output.finish = finish;
  output.detail = detail;
  return output;
}

TEST(WarmUp, ARealEngineIsAtRestAgain) {
  RandomServer parts;
  EXPECT_TRUE(WarmUp(parts.engine.get()).ok());
  const EngineStats stats = parts.engine->stats();
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.kv_cache_usage, 0.0);
  EXPECT_GE(stats.steps, 1);
}

TEST(WarmUp, OneTokenIsMade) {
  FirstStepEngine engine;
  engine.outputs = {Output(FinishReason::kNone), Output(FinishReason::kLength)};
  EXPECT_TRUE(WarmUp(&engine).ok());
  EXPECT_EQ(engine.generation.prompt.size(), 1);
  EXPECT_EQ(engine.generation.max_tokens, 1);
}

TEST(WarmUp, AStepThatFailsIsSaid) {
  FirstStepEngine engine;
  engine.outputs = {Output(FinishReason::kError, "no such instruction")};
  EXPECT_EQ(WarmUp(&engine), absl::InternalError("first step: no such instruction"));
}

TEST(WarmUp, ARefusalIsSaid) {
  FakeEngine engine;
  EXPECT_EQ(WarmUp(&engine), absl::UnimplementedError("engine: a fake"));
}

TEST(WarmUp, EncodersReadATextOrAPair) {
  for (const bool scores : {false, true}) {
    FirstStepEngine engine;
    engine.model_info.generates = false;
    engine.model_info.scores = scores;
    EXPECT_TRUE(WarmUp(&engine).ok());
    EXPECT_EQ(engine.encoding.ids.size(), 2);
    EXPECT_EQ(engine.encoding.second_begin, scores ? 1 : 0);
  }
}

TEST(WarmUp, AnEncoderThatFailsIsSaid) {
  FirstStepEngine engine;
  engine.model_info.generates = false;
  engine.encoded = absl::InternalError("a number is not finite");
  EXPECT_EQ(WarmUp(&engine), absl::InternalError("first step: a number is not finite"));
}

}  // namespace
}  // namespace pregate
