// The loop of an encoder on a tiny model: vectors, queues, deadlines, cancellation, drain.
#include "engine/encoder_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "engine/engine.h"
#include "engine/engine_setup.h"
#include "tests/model/tiny_case.h"

namespace pregate {
namespace {

using testing::HasSubstr;

class EncoderEngineTest : public testing::Test {
 protected:
  static nlohmann::json CaseNamed(const std::string& name) {
    const auto root = nlohmann::json::parse(std::ifstream("tests/testdata/parity/encoders.json"));
    for (const nlohmann::json& test_case : root["cases"]) {
      if (test_case["name"] == name) return test_case;
    }
    return {};
  }

  std::unique_ptr<Engine> Make(EngineOptions options = {}, const std::string& name = "bert_mean") {
    model_.reset();  // its folder is that of the next one of its name
    model_ = std::make_unique<TinyModel>(CaseNamed(name), TinyModel::Format::kSafetensors);
    auto engine = Engine::Create(model_->path(), options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  // Holds the engine's thread in a callback until opened, so that others have to wait.
  class Gate {
   public:
    EncodingCallback Callback() {
      return [this](EncodingOutput) {
        absl::MutexLock lock(&mutex_);
        reached_ = true;
        mutex_.Await(absl::Condition(&open_));
      };
    }
    void WaitUntilReached() {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&reached_));
    }
    void Open() {
      absl::MutexLock lock(&mutex_);
      open_ = true;
    }

   private:
    absl::Mutex mutex_;
    bool reached_ = false, open_ = false;
  };

  // The outputs of some texts, in the order of Callback().
  class Outputs {
   public:
    EncodingCallback Callback() {
      const size_t index = next_++;
      absl::MutexLock lock(&mutex_);
      outputs_.resize(next_);
      return [this, index](EncodingOutput output) {
        absl::MutexLock lock(&mutex_);
        order_.push_back(index);
        outputs_[index] = std::move(output);
      };
    }
    const std::vector<EncodingOutput>& Wait() {
      absl::MutexLock lock(&mutex_);
      EXPECT_TRUE(
          mutex_.AwaitWithTimeout(absl::Condition(this, &Outputs::Done), absl::Seconds(60)));
      return outputs_;
    }
    const std::vector<size_t>& order() const { return order_; }

   private:
    bool Done() const { return order_.size() == next_; }
    absl::Mutex mutex_;
    size_t next_ = 0;
    std::vector<EncodingOutput> outputs_;
    std::vector<size_t> order_;
  };

  static EncodingRequest Text(std::vector<int32_t> ids) {
    EncodingRequest request;
    request.ids = std::move(ids);
    return request;
  }
  static std::vector<float> Encode(Engine& engine, EncodingRequest request) {
    Outputs outputs;
    const auto id = engine.Encode(std::move(request), outputs.Callback());
    EXPECT_TRUE(id.ok()) << id.status();
    const EncodingOutput output = outputs.Wait()[0];
    EXPECT_TRUE(output.status.ok()) << output.status;
    return output.values;
  }

  std::unique_ptr<TinyModel> model_;
};

TEST_F(EncoderEngineTest, SaysWhatItIs) {
  const auto engine = Make();
  const ModelInfo& info = engine->model();
  EXPECT_FALSE(info.generates || info.scores);
  EXPECT_EQ(info.embedding_size, 128);
  EXPECT_EQ(info.pooling, Pooling::kMean);
  EXPECT_EQ(info.max_prompt_tokens, 66);
  EXPECT_EQ(info.architecture, "bert");
  EXPECT_GT(info.num_parameters, 100'000);
  EXPECT_EQ(info.kv_blocks, 0);
  GenerationRequest request;
  request.prompt = {1};
  request.sampling.resize(1);
  const auto refused = engine->Submit(std::move(request), [](GenerationOutput) {});
  EXPECT_EQ(refused.status(), absl::UnimplementedError("model: does not generate"));
  const auto score = Make({}, "bert_score");
  EXPECT_TRUE(score->model().scores);
  EXPECT_EQ(score->model().embedding_size, 0);
}

TEST_F(EncoderEngineTest, NoStepsOfGenerationForIt) {
  const TinyModel model(CaseNamed("bert_mean"), TinyModel::Format::kSafetensors);
  EXPECT_EQ(SetUpEngine(model.path(), {}, nullptr).status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST_F(EncoderEngineTest, ManyAtOnceAreAsEachAlone) {
  EngineOptions options;
  options.max_num_batched_tokens = 100;
  options.max_num_seqs = 7;
  const auto engine = Make(options);
  std::vector<EncodingRequest> requests;
  for (int i = 0; i < 60; ++i) {
    EncodingRequest request;
    for (int t = 0; t <= i * 7 % 66 && t < 66; ++t)
      request.ids.push_back(2 + (i * 31 + t * 17) % 150);
    request.pooling = static_cast<Pooling>(i % 4);
    if (request.ids.size() > 3 && i % 3 == 0) request.second_begin = 2;
    requests.push_back(std::move(request));
  }
  Outputs outputs;
  for (const EncodingRequest& request : requests) {
    ASSERT_TRUE(engine->Encode(request, outputs.Callback()).ok());
  }
  const std::vector<EncodingOutput> together = outputs.Wait();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(together[i].status.ok()) << together[i].status;
    EXPECT_EQ(together[i].values, Encode(*engine, requests[i])) << i;
    EXPECT_GE(together[i].queue, absl::ZeroDuration());
    EXPECT_GT(together[i].compute, absl::ZeroDuration());
  }
  EXPECT_TRUE(engine->WaitUntilIdle(absl::Seconds(10)));
  EXPECT_EQ(engine->stats().waiting, 0);
  EXPECT_EQ(engine->stats().running, 0);
}

TEST_F(EncoderEngineTest, ScoresOfPairs) {
  const auto engine = Make({}, "bert_score");
  EncodingRequest pair = Text({2, 40, 41, 3, 50, 51, 3});
  pair.second_begin = 4;
  const std::vector<float> score = Encode(*engine, pair);
  ASSERT_EQ(score.size(), 1u);
  pair.second_begin = 0;
  EXPECT_NE(Encode(*engine, pair), score);  // its segments count
}

TEST_F(EncoderEngineTest, DtypesAreNearEachOther) {
  const EncodingRequest text = Text({2, 9, 8, 77, 31, 3});
  const auto with = [&](const char* dtype) {
    EngineOptions options;
    options.dtype = dtype;
    return Encode(*Make(options), text);
  };
  const std::vector<float> exact = with("float32"), wide = with("auto"), bytes = with("int8");
  const auto cosine = [&](const std::vector<float>& other) {
    double dot = 0, a = 0, b = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      dot += double{exact[i]} * other[i];
      a += double{exact[i]} * exact[i];
      b += double{other[i]} * other[i];
    }
    return dot / std::sqrt(a * b);
  };
  EXPECT_GT(cosine(wide), 0.99999);
  EXPECT_GT(cosine(bytes), 0.99);
  EXPECT_NE(exact, wide);
}

TEST_F(EncoderEngineTest, RefusesWhatDoesNotFit) {
  EngineOptions options;
  options.max_model_len = 10;
  const auto engine = Make(options);
  const auto refused = [&](EncodingRequest request) {
    return engine->Encode(std::move(request), [](EncodingOutput) {}).status();
  };
  EXPECT_EQ(refused(Text({})).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused(Text(std::vector<int32_t>(11, 5))).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused(Text({160})).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused(Text({-1})).code(), absl::StatusCode::kInvalidArgument);
  options.max_model_len = 67;
  EXPECT_EQ(Engine::Create(model_->path(), options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(EncoderEngineTest, ATextLongerThanAStepIsRead) {
  EngineOptions options;
  options.max_num_batched_tokens = options.max_num_seqs = 8;
  const auto engine = Make(options);
  EXPECT_EQ(Encode(*engine, Text(std::vector<int32_t>(66, 5))).size(), 128u);
}

TEST_F(EncoderEngineTest, AFullQueueIsAnAnswer) {
  EngineOptions options;
  options.max_num_queued_reqs = 2;
  options.max_num_queued_tokens = 12;
  const auto engine = Make(options);
  Gate gate;
  ASSERT_TRUE(engine->Encode(Text({5}), gate.Callback()).ok());
  gate.WaitUntilReached();
  Outputs outputs;
  ASSERT_TRUE(engine->Encode(Text({5, 6, 7, 8}), outputs.Callback()).ok());
  const auto many = engine->Encode(Text(std::vector<int32_t>(9, 5)), [](EncodingOutput) {});
  EXPECT_EQ(many.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(many.status().message()), HasSubstr("at most 12 prompt tokens; got 13"));
  ASSERT_TRUE(engine->Encode(Text({5}), outputs.Callback()).ok());
  EXPECT_EQ(engine->stats().waiting, 2);
  const auto third = engine->Encode(Text({5}), [](EncodingOutput) {});
  EXPECT_EQ(third.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(third.status().message()), HasSubstr("at most 2 requests; got 3"));
  gate.Open();
  for (const EncodingOutput& output : outputs.Wait()) EXPECT_TRUE(output.status.ok());
  EXPECT_TRUE(engine->WaitUntilIdle(absl::Seconds(10)));
  EXPECT_EQ(Encode(*engine, Text({5})).size(), 128u);  // there is room again
}

TEST_F(EncoderEngineTest, PriorityCountsWhereThePolicySaysSo) {
  for (const char* policy : {"fcfs", "priority"}) {
    EngineOptions options;
    options.scheduling_policy = policy;
    options.max_num_seqs = 1;
    const auto engine = Make(options);
    Gate gate;
    ASSERT_TRUE(engine->Encode(Text({5}), gate.Callback()).ok());
    gate.WaitUntilReached();
    std::vector<int> order;  // the engine's thread's
    for (const int priority : {2, 1}) {
      EncodingRequest request = Text({5});
      request.priority = priority;
      ASSERT_TRUE(
          engine->Encode(request, [&order, priority](EncodingOutput) { order.push_back(priority); })
              .ok());
    }
    gate.Open();
    ASSERT_TRUE(engine->WaitUntilIdle(absl::Seconds(10)));
    EXPECT_EQ(order, policy == std::string("fcfs") ? std::vector({2, 1}) : std::vector({1, 2}));
  }
}

TEST_F(EncoderEngineTest, RefusesAPolicyThatItDoesNotKnow) {
  const TinyModel model(CaseNamed("bert_mean"), TinyModel::Format::kSafetensors);
  EngineOptions options;
  options.scheduling_policy = "fair";
  EXPECT_EQ(Engine::Create(model.path(), options).status(),
            absl::InvalidArgumentError("scheduling-policy: must be fcfs or priority; got fair"));
}

TEST_F(EncoderEngineTest, DeadlinesAndCancellationsEndWhoWaits) {
  const auto engine = Make();
  Gate gate;
  ASSERT_TRUE(engine->Encode(Text({5}), gate.Callback()).ok());
  gate.WaitUntilReached();
  Outputs outputs;
  EncodingRequest hurried = Text({5});
  hurried.deadline = absl::Now() + absl::Milliseconds(1);
  ASSERT_TRUE(engine->Encode(hurried, outputs.Callback()).ok());
  const auto cancelled = engine->Encode(Text({6}), outputs.Callback());
  ASSERT_TRUE(cancelled.ok());
  const auto answer = engine->Encode(Text({7}), outputs.Callback());
  ASSERT_TRUE(answer.ok());
  ASSERT_TRUE(engine->Encode(Text({8}), outputs.Callback()).ok());
  engine->Cancel(*cancelled);
  engine->Cancel(*cancelled);
  engine->Cancel(12345);
  engine->CancelAnswer(*answer, 1);  // it has only one
  absl::SleepFor(absl::Milliseconds(5));
  gate.Open();
  const std::vector<EncodingOutput>& ended = outputs.Wait();
  EXPECT_EQ(ended[0].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(ended[0].status.message()), HasSubstr("expired in queue after"));
  EXPECT_EQ(ended[1].status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(ended[2].status.ok() && ended[3].status.ok());
  EXPECT_TRUE(engine->WaitUntilIdle(absl::Seconds(10)));
}

TEST_F(EncoderEngineTest, DrainRefusesTheNewAndEndsTheOld) {
  const auto engine = Make();
  Outputs outputs;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(engine->Encode(Text({5, 6}), outputs.Callback()).ok());
  engine->StartDrain();
  EXPECT_TRUE(engine->stats().draining);
  EXPECT_EQ(engine->Encode(Text({5}), [](EncodingOutput) {}).status().code(),
            absl::StatusCode::kUnavailable);
  EncodingRequest of_an_old_call = Text({5});
  of_an_old_call.continues = true;
  EXPECT_TRUE(engine->Encode(of_an_old_call, outputs.Callback()).ok());
  EXPECT_TRUE(engine->WaitUntilIdle(absl::Seconds(30)));
  for (const EncodingOutput& output : outputs.Wait()) EXPECT_TRUE(output.status.ok());
}

TEST_F(EncoderEngineTest, WhoeverStillWaitsAtTheEndIsCancelled) {
  auto engine = Make();
  Gate gate;
  ASSERT_TRUE(engine->Encode(Text({5}), gate.Callback()).ok());
  gate.WaitUntilReached();
  Outputs outputs;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(engine->Encode(Text({5}), outputs.Callback()).ok());
  std::thread opener([&] {
    absl::SleepFor(absl::Milliseconds(20));
    gate.Open();
  });
  engine.reset();
  opener.join();
  for (const EncodingOutput& output : outputs.Wait()) {
    EXPECT_EQ(output.status.code(), absl::StatusCode::kCancelled) << output.status;
  }
}

TEST_F(EncoderEngineTest, StepsAreObserved) {
  EngineOptions options;
  options.max_num_seqs = 2;
  const auto engine = Make(options);
  absl::Mutex mutex;
  int64_t rows = 0, texts = 0, steps = 0;
  engine->SetStepObserver([&](const StepStats& step) {
    absl::MutexLock lock(&mutex);
    rows += step.rows;
    texts += step.sequences;
    ++steps;
    EXPECT_EQ(step.prompt_tokens, step.rows);
    EXPECT_GT(step.execute, absl::ZeroDuration());
    EXPECT_LE(step.sequences, 2);
  });
  Outputs outputs;
  for (int i = 0; i < 9; ++i) ASSERT_TRUE(engine->Encode(Text({5, 6, 7}), outputs.Callback()).ok());
  outputs.Wait();
  const auto settled = [&] {
    absl::MutexLock lock(&mutex);
    return texts == 9;
  };
  for (int i = 0; i < 1000 && !settled(); ++i) absl::SleepFor(absl::Milliseconds(1));
  absl::MutexLock lock(&mutex);
  EXPECT_EQ(texts, 9);
  EXPECT_EQ(rows, 27);
  EXPECT_GE(steps, 5);
  EXPECT_EQ(engine->stats().steps, steps);
}

}  // namespace
}  // namespace pregate
