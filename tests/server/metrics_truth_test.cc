// Metrics against the truth: many requests on a real engine, and what their answers add up to.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/engine.h"
#include "server/generation/generation.h"
#include "server/generation/served_model.h"
#include "server/metrics/metrics.h"
#include "tests/model/gguf_writer.h"
#include "tests/server/scrape.h"

namespace pregate {
namespace {

// What the answers say of themselves.
struct Truth {
  double answers = 0, prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, gaps = 0;
  std::map<FinishReason, double> finished;
  absl::Duration queue, prefill, first_token, decode;

  void Add(const AnswerDelta& ended) {
    ++answers;
    ++finished[ended.finish];
    prompt_tokens += ended.prompt_tokens;
    cached_tokens += ended.cached_prompt_tokens;
    completion_tokens += ended.completion_tokens;
    gaps += ended.completion_tokens - 1;
    queue += ended.timing.queue;
    prefill += ended.timing.prefill;
    first_token += ended.timing.time_to_first_token;
    decode += ended.timing.decode;
  }
};

std::unique_ptr<Engine> TinyEngine() {
  const std::string path = ::testing::TempDir() + "metrics_truth.gguf";
  std::ofstream(path, std::ios::binary) << MakeTinyGguf({}).Build();
  EngineOptions options;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 16;
  options.max_num_queued_tokens = 10000;
  options.kv_cache_memory = 48 << 10;  // too little for four long answers: some are set back
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(path, options);
  if (!engine.ok()) ADD_FAILURE() << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

ClientRequest SomeRequest(int i) {
  ClientRequest request;
  request.prompt = std::string(20 + i % 5, static_cast<char>('a' + i % 3));
  request.max_tokens = 10 + 7 * (i % 6);
  request.n = 1 + i % 2;
  request.seed = i;
  request.sampling.temperature = 1.0f;
  request.ignore_eos = i % 4 != 0;
  return request;
}

// Takes until every one has ended; no answer is cut.
Truth TakeAll(const std::vector<std::shared_ptr<Generation>>& generations) {
  Truth truth;
  for (const auto& generation : generations) {
    while (!generation->done()) {
      absl::SleepFor(absl::Milliseconds(1));
      for (const AnswerDelta& delta : generation->Take()) {
        if (delta.finish != FinishReason::kNone) truth.Add(delta);
      }
    }
  }
  return truth;
}

TEST(MetricsTruth, CountersAndHistogramsEqualTheAnswers) {
  const std::unique_ptr<Engine> engine = TinyEngine();
  ASSERT_NE(engine, nullptr);
  Metrics metrics(engine.get(), "tiny", MetricsCompat::kNone);
  engine->SetStepObserver([&metrics](const StepStats& step) { metrics.ObserveStep(step); });
  ASSERT_TRUE(metrics.StartServer("127.0.0.1", 0).ok());
  const ServedModel model(engine.get(), &metrics, {.name = "tiny", .chat_template = ""});

  std::vector<std::shared_ptr<Generation>> generations;
  for (int i = 0; i < 24; ++i) {
    const auto generation = Generation::Start(&model, SomeRequest(i), [] {});
    ASSERT_TRUE(generation.ok()) << generation.status();
    generations.push_back(*generation);
  }
  ClientRequest refused = SomeRequest(0);
  refused.sampling.temperature = 9;
  EXPECT_FALSE(Generation::Start(&model, refused, [] {}).ok());
  refused.model = "another";
  EXPECT_FALSE(Generation::Start(&model, refused, [] {}).ok());
  const Truth truth = TakeAll(generations);
  engine->StartDrain();
  EXPECT_FALSE(Generation::Start(&model, SomeRequest(0), [] {}).ok());
  ASSERT_TRUE(engine->WaitUntilIdle(absl::Seconds(10)));
  // The last step is observed after its answers have gone out.
  while (engine->stats().running > 0) absl::SleepFor(absl::Milliseconds(1));

  std::map<std::string, double> page = Values(Body(Get(metrics.port())));
  EXPECT_EQ(truth.answers, 36);
  EXPECT_EQ(page["pregate_request_success_total{finished_reason=\"stop\"}"],
            truth.finished.count(FinishReason::kStop) ? truth.finished.at(FinishReason::kStop) : 0);
  EXPECT_EQ(page["pregate_request_success_total{finished_reason=\"length\"}"],
            truth.finished.at(FinishReason::kLength));
  EXPECT_EQ(page["pregate_prompt_tokens_total"], truth.prompt_tokens);
  EXPECT_EQ(page["pregate_generation_tokens_total"], truth.completion_tokens);
  EXPECT_EQ(page["pregate_request_generation_tokens_sum"], truth.completion_tokens);
  EXPECT_EQ(page["pregate_inter_token_latency_seconds_count"], truth.gaps);
  EXPECT_EQ(page["pregate_e2e_request_latency_seconds_count"], truth.answers);
  const std::pair<const char*, absl::Duration> sums[] = {
      {"request_queue_time_seconds", truth.queue},
      {"request_prefill_time_seconds", truth.prefill},
      {"time_to_first_token_seconds", truth.first_token},
      {"request_decode_time_seconds", truth.decode}};
  for (const auto& [name, sum] : sums) {
    EXPECT_NEAR(page[absl::StrCat("pregate_", name, "_sum")], absl::ToDoubleSeconds(sum), 1e-6);
    EXPECT_EQ(page[absl::StrCat("pregate_", name, "_count")], truth.answers);
  }
  EXPECT_EQ(page["pregate_step_rows_count"], static_cast<double>(engine->stats().steps));
  EXPECT_GT(page["pregate_num_preemptions_total"], 0);
  EXPECT_GE(page["pregate_prefix_cache_hits_total"], truth.cached_tokens);
  EXPECT_EQ(page["pregate_num_requests_running"], 0);
  EXPECT_EQ(page["pregate_num_requests_waiting"], 0);
  EXPECT_EQ(page["pregate_kv_cache_usage_perc"], 0);
  EXPECT_EQ(page["pregate_requests_rejected_total{reason=\"invalid\"}"], 1);
  EXPECT_EQ(page["pregate_requests_rejected_total{reason=\"not_found\"}"], 1);
  EXPECT_EQ(page["pregate_requests_rejected_total{reason=\"draining\"}"], 1);
}

}  // namespace
}  // namespace pregate
