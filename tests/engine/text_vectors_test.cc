// Texts read for their vectors by a model that generates: the same steps, other ends.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/synchronization/notification.h"
#include "engine/engine.h"
#include "engine/engine_setup.h"
#include "tests/engine/engine_harness.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

std::unique_ptr<Engine> MakeTestEngine(EngineOptions options = {}) {
  auto setup = SetUpEngine(MakeRandomModel(RandomModelSpec()), options, nullptr);
  EXPECT_TRUE(setup.ok()) << setup.status();
  return MakeEngine(*std::move(setup));
}

std::vector<int32_t> Text(int32_t tokens, int32_t seed = 1) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < tokens; ++i) ids.push_back((i * 37 + seed * 11) % 256);
  return ids;
}

// A text on its way to its vector.
class Reading {
 public:
  Reading(Engine& engine, std::vector<int32_t> ids, Pooling pooling) {
    EncodingRequest request;
    request.ids = std::move(ids);
    request.pooling = pooling;
    auto id = engine.Encode(std::move(request), [this](EncodingOutput output) {
      output_ = std::move(output);
      done_.Notify();
    });
    EXPECT_TRUE(id.ok()) << id.status();
    id_ = id.value_or(0);
  }
  const EncodingOutput& Wait() {
    EXPECT_TRUE(done_.WaitForNotificationWithTimeout(absl::Seconds(60)));
    return output_;
  }
  uint64_t id() const { return id_; }

 private:
  uint64_t id_ = 0;
  absl::Notification done_;
  EncodingOutput output_;
};

std::vector<float> Vector(Engine& engine, std::vector<int32_t> ids, Pooling pooling) {
  Reading reading(engine, std::move(ids), pooling);
  EXPECT_TRUE(reading.Wait().status.ok()) << reading.Wait().status;
  return reading.Wait().values;
}

TEST(TextVectors, ModelSaysWhatItGives) {
  const auto engine = MakeTestEngine();
  EXPECT_TRUE(engine->model().generates);
  EXPECT_EQ(engine->model().embedding_size, 64);
  EXPECT_EQ(engine->model().pooling, Pooling::kLast);
  EXPECT_EQ(engine->model().max_prompt_tokens, engine->model().max_model_len - 2);
}

// Each row of a causal model is the last row of the text up to it.
TEST(TextVectors, PoolingsAreThoseOfTheRows) {
  const auto engine = MakeTestEngine();
  const std::vector<int32_t> text = Text(21);
  std::vector<double> mean(64);
  for (size_t n = 1; n <= text.size(); ++n) {
    const std::vector<float> row =
        Vector(*engine, {text.begin(), text.begin() + static_cast<long>(n)}, Pooling::kLast);
    ASSERT_EQ(row.size(), mean.size());
    for (size_t i = 0; i < row.size(); ++i) mean[i] += row[i] / static_cast<double>(text.size());
    if (n == 1) {
      EXPECT_EQ(Vector(*engine, text, Pooling::kCls), row);
    }
    if (n == text.size()) {
      EXPECT_EQ(Vector(*engine, text, Pooling::kNone), row);
    }
  }
  const std::vector<float> got = Vector(*engine, text, Pooling::kMean);
  for (size_t i = 0; i < mean.size(); ++i) EXPECT_NEAR(got[i], mean[i], 1e-5);
}

TEST(TextVectors, ChunksAndCompanyChangeNothing) {
  const auto alone = MakeTestEngine();
  EngineOptions options;
  options.max_num_batched_tokens = options.max_num_seqs = 16;
  options.max_num_prefill_tokens = 7;
  options.kv_cache_memory = 400 * 1024;  // few blocks: some are preempted
  const auto busy = MakeTestEngine(options);
  Collector generations(1);
  ASSERT_TRUE(busy->Submit(GreedyRequest(Text(9, 5), 60), generations.Callback()).ok());
  std::vector<std::unique_ptr<Reading>> readings;
  for (int32_t i = 0; i < 24; ++i) {
    readings.push_back(
        std::make_unique<Reading>(*busy, Text(1 + i * 7 % 60, i), static_cast<Pooling>(1 + i % 3)));
  }
  for (int32_t i = 0; i < 24; ++i) {
    const EncodingOutput& output = readings[static_cast<size_t>(i)]->Wait();
    ASSERT_TRUE(output.status.ok()) << output.status;
    EXPECT_EQ(output.values,
              Vector(*alone, Text(1 + i * 7 % 60, i), static_cast<Pooling>(1 + i % 3)))
        << "text " << i;
  }
  ASSERT_TRUE(generations.Wait());
  EXPECT_EQ(generations.answers()[0].tokens, Ask(*alone, GreedyRequest(Text(9, 5), 60))[0].tokens);
  EXPECT_TRUE(busy->WaitUntilIdle(absl::Seconds(10)));
  EXPECT_EQ(busy->stats().kv_cache_usage, 0.0);
}

TEST(TextVectors, EndEarlyLikeAnswers) {
  const auto engine = MakeTestEngine();
  Reading reading(*engine, Text(400), Pooling::kMean);
  engine->Cancel(reading.id());
  const absl::StatusCode ended = reading.Wait().status.code();
  EXPECT_TRUE(ended == absl::StatusCode::kCancelled || ended == absl::StatusCode::kOk);
  EncodingRequest late;
  late.ids = Text(5);
  late.deadline = absl::Now() - absl::Seconds(1);
  absl::Notification done;
  absl::Status status;
  ASSERT_TRUE(engine
                  ->Encode(late,
                           [&](EncodingOutput output) {
                             status = output.status;
                             done.Notify();
                           })
                  .ok());
  ASSERT_TRUE(done.WaitForNotificationWithTimeout(absl::Seconds(30)));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EncodingRequest wrong;
  wrong.ids = {320};
  EXPECT_EQ(engine->Encode(wrong, [](EncodingOutput) {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  wrong.ids = Text(511);
  EXPECT_EQ(engine->Encode(wrong, [](EncodingOutput) {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  engine->StartDrain();
  EXPECT_EQ(engine->Encode(late, [](EncodingOutput) {}).status().code(),
            absl::StatusCode::kUnavailable);
  late.continues = true;  // of a call that was accepted
  absl::Notification read;
  EXPECT_TRUE(engine->Encode(late, [&](EncodingOutput) { read.Notify(); }).ok());
  EXPECT_TRUE(read.WaitForNotificationWithTimeout(absl::Seconds(30)));
}

}  // namespace
}  // namespace pregate
