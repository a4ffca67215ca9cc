// The step loop on a small random model: ends, deadlines, queues, drains.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <deque>
#include <iterator>

#include "absl/synchronization/notification.h"
#include "engine/engine_setup.h"
#include "tests/engine/engine_harness.h"
#include "tests/model/distant_device.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

std::unique_ptr<Engine> MakeTestEngine(EngineOptions options = {}) {
  auto setup = SetUpEngine(MakeRandomModel(RandomModelSpec()), options, nullptr);
  EXPECT_TRUE(setup.ok()) << setup.status();
  return MakeEngine(*std::move(setup));
}

// Everything that a request held is free again.
void ExpectQuiet(Engine& engine) {
  EXPECT_TRUE(engine.WaitUntilIdle(absl::Seconds(30)));
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting, 0);
  EXPECT_EQ(stats.kv_cache_usage, 0.0);
}

TEST(Engine, AnswersEndOnceAndAreCounted) {
  auto engine = MakeTestEngine();
  const std::vector<Answer> answers = Ask(*engine, GreedyRequest({1, 2, 3}, 10));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].tokens.size(), 10u);
  EXPECT_EQ(answers[0].finish, FinishReason::kLength);
  EXPECT_EQ(answers[0].last.prompt_tokens, 3);
  EXPECT_EQ(answers[0].last.completion_tokens, 10);
  EXPECT_GT(answers[0].last.timing.time_to_first_token, absl::ZeroDuration());
  ExpectQuiet(*engine);
}

TEST(Engine, SameQuestionSameAnswer) {
  auto engine = MakeTestEngine();
  const auto first = Ask(*engine, GreedyRequest({5, 6, 7}, 12));
  const auto second = Ask(*engine, GreedyRequest({5, 6, 7}, 12));
  EXPECT_EQ(first[0].tokens, second[0].tokens);
}

TEST(Engine, StopIdEndsTheAnswer) {
  auto engine = MakeTestEngine();
  const std::vector<int32_t> free = Ask(*engine, GreedyRequest({9, 8, 7}, 12))[0].tokens;
  GenerationRequest request = GreedyRequest({9, 8, 7}, 12);
  request.stop_ids = {free[5]};
  const Answer stopped = Ask(*engine, request)[0];
  const auto first = std::find(free.begin(), free.end(), free[5]);
  EXPECT_EQ(stopped.tokens, std::vector<int32_t>(free.begin(), first + 1));
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
}

TEST(Engine, MinTokensHoldsStopsBack) {
  auto engine = MakeTestEngine();
  const std::vector<int32_t> free = Ask(*engine, GreedyRequest({9, 8, 7}, 4))[0].tokens;
  GenerationRequest request = GreedyRequest({9, 8, 7}, 12);
  request.stop_ids = {free[0]};
  request.min_tokens = 6;
  const Answer answer = Ask(*engine, request)[0];
  ASSERT_GE(answer.tokens.size(), 6u);
  for (int i = 0; i < 6; ++i) EXPECT_NE(answer.tokens[i], free[0]) << i;
}

TEST(Engine, ContextEndsTheAnswer) {
  EngineOptions options;
  options.max_model_len = 32;
  auto engine = MakeTestEngine(options);
  const Answer answer = Ask(*engine, GreedyRequest(std::vector<int32_t>(20, 3), 1000))[0];
  EXPECT_EQ(answer.finish, FinishReason::kLength);
  EXPECT_EQ(answer.tokens.size(), 12u);
}

TEST(Engine, PromptLogprobsAreAsLongAsThePromptLessOne) {
  EngineOptions options;
  options.max_num_batched_tokens = 64;
  options.max_num_seqs = 8;
  auto engine = MakeTestEngine(options);
  GenerationRequest request = GreedyRequest(std::vector<int32_t>(150, 4), 2);
  request.prompt_logprobs = 2;
  request.sampling[0].logprobs = 1;
  const Answer answer = Ask(*engine, request)[0];
  ASSERT_EQ(answer.prompt_logprobs.size(), 149u);
  EXPECT_EQ(answer.prompt_logprobs[0].chosen.token_id, 4);
  EXPECT_EQ(answer.prompt_logprobs[0].top.size(), 2u);
  ASSERT_EQ(answer.logprobs.size(), 2u);
  EXPECT_EQ(answer.logprobs[0].top.size(), 1u);
  EXPECT_EQ(answer.logprobs[0].chosen.token_id, answer.tokens[0]);
  EXPECT_LE(answer.logprobs[0].chosen.logprob, 0.0f);
}

void ExpectEqual(const PositionLogprobs& a, const PositionLogprobs& b) {
  const auto expect_equal = [](const TokenLogprob& one, const TokenLogprob& other) {
    EXPECT_EQ(one.token_id, other.token_id);
    EXPECT_EQ(one.logprob, other.logprob);
  };
  expect_equal(a.chosen, b.chosen);
  ASSERT_EQ(a.top.size(), b.top.size());
  for (size_t i = 0; i < a.top.size(); ++i) expect_equal(a.top[i], b.top[i]);
  ASSERT_EQ(a.wanted.size(), b.wanted.size());
  for (size_t i = 0; i < a.wanted.size(); ++i) expect_equal(a.wanted[i], b.wanted[i]);
}

// The probabilities of all ids, asked for by name, are one together, at every position.
TEST(Engine, NamedLogprobsAreADistribution) {
  auto engine = MakeTestEngine();
  const int32_t vocab = engine->model().vocab_size;
  std::vector<double> answer_sums(3), prompt_sums(4);
  for (int32_t first = 0; first < vocab; first += 128) {
    GenerationRequest request = GreedyRequest({1, 2, 3, 4, 5}, 3);
    request.prompt_logprobs = 0;
    std::vector<int32_t>& ids = request.sampling[0].logprob_token_ids;
    for (int32_t id = first; id < std::min(first + 128, vocab); ++id) ids.push_back(id);
    const Answer answer = Ask(*engine, request)[0];
    const auto add = [&](const std::vector<PositionLogprobs>& from, std::vector<double>* sums) {
      ASSERT_EQ(from.size(), sums->size());
      for (size_t i = 0; i < from.size(); ++i) {
        ASSERT_EQ(from[i].wanted.size(), ids.size());
        for (const TokenLogprob& token : from[i].wanted) {
          (*sums)[i] += std::exp(double{token.logprob});
          if (token.token_id == from[i].chosen.token_id) {
            EXPECT_EQ(token.logprob, from[i].chosen.logprob);
          }
        }
      }
    };
    add(answer.logprobs, &answer_sums);
    add(answer.prompt_logprobs, &prompt_sums);
  }
  for (const double sum : answer_sums) EXPECT_NEAR(sum, 1.0, 1e-5);
  for (const double sum : prompt_sums) EXPECT_NEAR(sum, 1.0, 1e-5);
}

// An answer, scored as a prompt, has the log-probabilities that it had when it was generated: with
// what the prefix cache holds by then, and in chunks of a few logits.
TEST(Engine, ScoringAPromptSaysWhatGeneratingItSaid) {
  EngineOptions options;
  options.max_num_batched_tokens = 64;
  options.max_num_seqs = 8;
  auto engine = MakeTestEngine(options);
  std::vector<int32_t> text(100);
  for (int32_t i = 0; i < 100; ++i) text[i] = 3 + i % 7;
  GenerationRequest request = GreedyRequest(text, 60);
  request.sampling[0].logprobs = 3;
  request.sampling[0].logprob_token_ids = {9, 2};
  const Answer generated = Ask(*engine, request)[0];
  ASSERT_EQ(generated.logprobs.size(), 60u);
  request.prompt.insert(request.prompt.end(), generated.tokens.begin(), generated.tokens.end());
  request.max_tokens = 0;
  request.prompt_logprobs = 3;
  request.ignore_eos = false;
  for (int round = 0; round < 2; ++round) {
    const Answer scored = Ask(*engine, request)[0];
    EXPECT_TRUE(scored.tokens.empty() && scored.logprobs.empty());
    EXPECT_EQ(scored.finish, FinishReason::kLength);
    EXPECT_EQ(scored.last.completion_tokens, 0);
    EXPECT_EQ(scored.last.prompt_tokens, 160);
    EXPECT_EQ(scored.last.cached_prompt_tokens, 0);
    EXPECT_GT(scored.last.timing.prefill, absl::ZeroDuration());
    ASSERT_EQ(scored.prompt_logprobs.size(), 159u);
    for (size_t i = 0; i < 60; ++i) {
      ExpectEqual(scored.prompt_logprobs[99 + i], generated.logprobs[i]);
    }
    ExpectQuiet(*engine);
  }
  EXPECT_EQ(Ask(*engine, GreedyRequest({1}, 1))[0].tokens.size(), 1u);
}

TEST(Engine, CancelEndsWithoutTheRest) {
  auto engine = MakeTestEngine();
  const std::vector<int32_t> whole = Ask(*engine, GreedyRequest({2, 2, 2}, 400))[0].tokens;
  Collector collector(1);
  const auto id = engine->Submit(GreedyRequest({2, 2, 2}, 400), collector.Callback());
  ASSERT_TRUE(id.ok());
  ASSERT_TRUE(collector.WaitForTokens(3));
  engine->Cancel(*id);
  engine->Cancel(*id);
  engine->Cancel(*id + 1000);
  ASSERT_TRUE(collector.Wait());
  const Answer answer = collector.answers()[0];
  EXPECT_EQ(answer.finish, FinishReason::kCancelled);
  EXPECT_EQ(answer.finishes, 1);
  EXPECT_LT(answer.tokens.size(), whole.size());
  EXPECT_TRUE(std::equal(answer.tokens.begin(), answer.tokens.end(), whole.begin()));
  ExpectQuiet(*engine);
}

TEST(Engine, DeadlineInQueueDoesNoWork) {
  auto engine = MakeTestEngine();
  GenerationRequest request = GreedyRequest({1, 2, 3}, 10);
  request.deadline = absl::Now() - absl::Seconds(1);
  const Answer answer = Ask(*engine, request)[0];
  EXPECT_EQ(answer.finish, FinishReason::kDeadline);
  EXPECT_TRUE(answer.tokens.empty());
  EXPECT_EQ(answer.last.detail.rfind("deadline: expired in queue after", 0), 0u)
      << answer.last.detail;
  EXPECT_EQ(engine->stats().steps, 0);
  ExpectQuiet(*engine);
}

TEST(Engine, DeadlineInDecodeKeepsAPrefix) {
  auto engine = MakeTestEngine();
  const std::vector<int32_t> whole = Ask(*engine, GreedyRequest({2, 2, 2}, 400))[0].tokens;
  // Other requests keep the engine busy, so that the deadline falls into the answer.
  std::deque<Collector> others;
  for (int i = 0; i < 8; ++i) {
    Collector& other = others.emplace_back(1);
    ASSERT_TRUE(engine->Submit(GreedyRequest({i + 1}, 400), other.Callback()).ok());
  }
  Collector collector(1);
  GenerationRequest request = GreedyRequest({2, 2, 2}, 400);
  request.deadline = absl::Now() + absl::Milliseconds(15);
  ASSERT_TRUE(engine->Submit(request, collector.Callback()).ok());
  ASSERT_TRUE(collector.Wait());
  const Answer answer = collector.answers()[0];
  EXPECT_TRUE(answer.finish == FinishReason::kDeadline || answer.tokens == whole);
  EXPECT_TRUE(std::equal(answer.tokens.begin(), answer.tokens.end(), whole.begin()));
  for (Collector& other : others) EXPECT_TRUE(other.Wait());
  ExpectQuiet(*engine);
}

TEST(Engine, FullQueueRefusesExactlyTheExcess) {
  EngineOptions options;
  options.max_num_seqs = 1;
  options.max_num_queued_reqs = 4;
  auto engine = MakeTestEngine(options);
  std::deque<Collector> collectors;
  Collector& running = collectors.emplace_back(1);
  ASSERT_TRUE(engine->Submit(GreedyRequest({1}, 450), running.Callback()).ok());
  ASSERT_TRUE(running.WaitForTokens(1));
  int refused = 0;
  for (int i = 0; i < 10; ++i) {
    Collector& collector = collectors.emplace_back(1);
    const auto id = engine->Submit(GreedyRequest({2}, 400), collector.Callback());
    if (id.ok()) continue;
    EXPECT_EQ(id.status().code(), absl::StatusCode::kResourceExhausted);
    collectors.pop_back();
    ++refused;
  }
  EXPECT_EQ(refused, 6);
  for (Collector& collector : collectors) EXPECT_TRUE(collector.Wait());
  ExpectQuiet(*engine);
}

TEST(Engine, QueuedTokensAreBounded) {
  EngineOptions options;
  options.max_num_queued_tokens = 100;
  auto engine = MakeTestEngine(options);
  Collector collector(1);
  const auto id =
      engine->Submit(GreedyRequest(std::vector<int32_t>(101, 1), 1), collector.Callback());
  EXPECT_EQ(id.status().code(), absl::StatusCode::kResourceExhausted) << id.status();
  EXPECT_EQ(Ask(*engine, GreedyRequest(std::vector<int32_t>(100, 1), 1))[0].tokens.size(), 1u);
}

TEST(Engine, DrainFinishesWhatRunsAndRefusesTheRest) {
  auto engine = MakeTestEngine();
  Collector collector(1);
  ASSERT_TRUE(engine->Submit(GreedyRequest({1, 2}, 300), collector.Callback()).ok());
  engine->StartDrain();
  Collector late(1);
  EXPECT_EQ(engine->Submit(GreedyRequest({1}, 1), late.Callback()).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_TRUE(engine->WaitUntilIdle(absl::Seconds(60)));
  EXPECT_TRUE(collector.Wait());
  EXPECT_EQ(collector.answers()[0].finish, FinishReason::kLength);
  EXPECT_TRUE(engine->stats().draining);
}

TEST(Engine, DestructionEndsEveryAnswer) {
  std::deque<Collector> collectors;
  {
    auto engine = MakeTestEngine();
    for (int i = 0; i < 20; ++i) {
      Collector& collector = collectors.emplace_back(1);
      ASSERT_TRUE(engine->Submit(GreedyRequest({i + 1}, 450), collector.Callback()).ok());
    }
  }
  for (Collector& collector : collectors) {
    ASSERT_TRUE(collector.Wait(absl::ZeroDuration()));
    EXPECT_EQ(collector.answers()[0].finishes, 1);
  }
}

TEST(Engine, ManyAnswersOfOneQuestion) {
  auto engine = MakeTestEngine();
  GenerationRequest request = GreedyRequest({1, 2, 3, 4}, 20);
  request.sampling.assign(16, SamplingParams());
  for (int i = 0; i < 16; ++i) request.sampling[i].seed = i;
  const auto answers = Ask(*engine, request);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(answers[i].tokens.size(), 20u);
    GenerationRequest alone = GreedyRequest({1, 2, 3, 4}, 20);
    alone.sampling[0] = request.sampling[i];
    EXPECT_EQ(Ask(*engine, alone)[0].tokens, answers[i].tokens) << i;
  }
}

// Steps that `CountedKernels` has begun.
std::atomic<int> begun_steps = 0;

const Kernels& CountedKernels() {
  static const Kernels kernels = [] {
    Kernels counted = ReferenceKernels();
    counted.embed = [](Device& device, const PackedWeight& table, const int32_t* ids, float scale,
                       Tensor out) {
      ++begun_steps;
      ReferenceKernels().embed(device, table, ids, scale, out);
    };
    return counted;
  }();
  return kernels;
}

// The test engine, but steps are run by a device whose memory the host cannot read.
std::unique_ptr<Engine> MakeDistantEngine() {
  auto setup = SetUpEngine(MakeRandomModel(RandomModelSpec()), EngineOptions(), nullptr);
  EXPECT_TRUE(setup.ok()) << setup.status();
  auto device = MakeDistantDevice(1);
  auto transformer = Transformer::Create(*setup->file, device.get(), &CountedKernels(), {});
  auto kv = KvStorage::Create(device.get(), setup->file->config(), DType::kF16,
                              setup->info.block_tokens, setup->info.kv_blocks);
  EXPECT_TRUE(transformer.ok() && kv.ok());
  setup->sampler =
      std::make_unique<Sampler>(device.get(), &CountedKernels(), setup->tokenizer->vocab_size(),
                                setup->scheduler_config.max_num_seqs);
  setup->kv = *std::move(kv);
  setup->transformer = *std::move(transformer);
  setup->device = std::move(device);
  return MakeEngine(*std::move(setup));
}

// A device that has been given a step works on it by itself: until it is done, clients are told of
// the step before. Nobody waits for a step that does not come.
TEST(Engine, ClientsAreToldWhileTheDeviceIsBusy) {
  auto engine = MakeDistantEngine();
  for (const int32_t length : {1, 2, 7}) {
    begun_steps = 0;
    std::vector<int> begun;  // when each output came
    absl::Notification ended;
    ASSERT_TRUE(engine
                    ->Submit(GreedyRequest({1, 2, 3}, length),
                             [&](GenerationOutput output) {
                               begun.push_back(begun_steps);
                               if (output.finish != FinishReason::kNone) ended.Notify();
                             })
                    .ok());
    ASSERT_TRUE(ended.WaitForNotificationWithTimeout(absl::Seconds(60)));
    ASSERT_EQ(std::ssize(begun), length);
    for (int32_t i = 0; i < length; ++i) EXPECT_EQ(begun[i], std::min(i + 2, length)) << i;
    ExpectQuiet(*engine);
  }
}

// Who sees that nothing is left to do has been told everything.
TEST(Engine, IdleMeansThatClientsWereTold) {
  auto engine = MakeDistantEngine();
  for (int i = 0; i < 200; ++i) {
    std::atomic<bool> told = false;
    GenerationRequest request = GreedyRequest({1, 2, 3}, 1 + i % 3);
    if (i % 4 == 0) request.deadline = absl::Now() - absl::Seconds(1);
    ASSERT_TRUE(engine
                    ->Submit(std::move(request),
                             [&](const GenerationOutput& output) {
                               if (output.finish != FinishReason::kNone) told = true;
                             })
                    .ok());
    ASSERT_TRUE(engine->WaitUntilIdle(absl::Seconds(30)));
    ASSERT_TRUE(told) << i;
  }
}

TEST(Engine, OneWhoIsNotToldYetCanLeave) {
  auto engine = MakeDistantEngine();
  for (int i = 0; i < 20; ++i) {
    Collector collector(1);
    const auto id = engine->Submit(GreedyRequest({2, 2, 2}, 400), collector.Callback());
    ASSERT_TRUE(id.ok());
    ASSERT_TRUE(collector.WaitForTokens(1 + i % 5));
    engine->Cancel(*id);
    ASSERT_TRUE(collector.Wait());
    ExpectQuiet(*engine);
    EXPECT_EQ(collector.answers()[0].finish, FinishReason::kCancelled);
    EXPECT_EQ(collector.answers()[0].after_finish, 0);
  }
}

TEST(EngineSetup, RefusesOptionsOutOfRange) {
  auto refused = [](auto change) {
    EngineOptions options;
    change(options);
    return SetUpEngine(MakeRandomModel(RandomModelSpec()), options, nullptr).status();
  };
  EXPECT_EQ(refused([](EngineOptions& o) { o.max_num_seqs = 0; }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](EngineOptions& o) { o.max_model_len = 1 << 30; }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](EngineOptions& o) { o.max_num_batched_tokens = 1; }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](EngineOptions& o) { o.kv_cache_memory = 1; }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](EngineOptions& o) { o.kv_cache_dtype = "q2"; }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](EngineOptions& o) { o.scheduling_policy = "luck"; }).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pregate
