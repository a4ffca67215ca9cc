// The metrics page as a scraper sees it: fetched over HTTP, read line by line, checked by promtool.
#include "server/metrics/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "server/metrics/bucket_edges.h"
#include "tests/server/fake_engine.h"
#include "tests/server/scrape.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

// What promtool says about a page, a finding a line. Skips the test where it is not installed.
std::set<std::string> PromtoolFindings(const std::string& page) {
  const std::string in = ::testing::TempDir() + "page.prom", out = in + ".findings";
  std::ofstream(in) << page;
  const int status =
      std::system(absl::StrCat("promtool check metrics <", in, " >", out, " 2>&1").c_str());
  std::ifstream file(out);
  std::set<std::string> findings;
  for (std::string line; std::getline(file, line);) findings.insert(line);
  // 3: it has read the page and has something to say on style. 1 would be a broken page.
  EXPECT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3) << *findings.begin();
  return findings;
}

bool HavePromtool() { return std::system("promtool --version >/dev/null 2>&1") == 0; }

class MetricsTest : public ::testing::Test {
 protected:
  void Start(MetricsCompat compat = MetricsCompat::kNone) {
    metrics_ = std::make_unique<Metrics>(&engine_, "smol \"135M\"\n", compat);
    ASSERT_TRUE(metrics_->StartServer("127.0.0.1", 0).ok());
    ASSERT_GT(metrics_->port(), 0);
  }
  std::string Page() { return Body(Get(metrics_->port())); }

  FakeEngine engine_;
  std::unique_ptr<Metrics> metrics_;
};

AnswerRecord SomeAnswer() {
  AnswerRecord answer;
  answer.finish = FinishReason::kLength;
  answer.prompt_tokens = 30;
  answer.completion_tokens = 11;
  answer.timing.queue = absl::Milliseconds(4);
  answer.timing.prefill = absl::Milliseconds(16);
  answer.timing.time_to_first_token = absl::Milliseconds(20);
  answer.timing.decode = absl::Milliseconds(500);
  answer.end_to_end = absl::Milliseconds(521);
  return answer;
}

TEST_F(MetricsTest, GaugesAndCountersOfTheEngineAreReadAtTheScrape) {
  engine_.model_info.kv_blocks = 1234;
  engine_.model_info.block_tokens = 16;
  Start();
  EXPECT_EQ(Values(Page())["pregate_num_requests_waiting"], 0);
  engine_.engine_stats = {.waiting = 7,
                          .running = 3,
                          .kv_cache_usage = 0.25,
                          .preemptions = 5,
                          .prefix_queries = 1000,
                          .prefix_hits = 640,
                          .drafts = 10,
                          .draft_tokens = 40,
                          .accepted_tokens = 25,
                          .last_step = absl::Now() - absl::Seconds(40),
                          .experts = {}};
  std::map<std::string, double> values = Values(Page());
  EXPECT_EQ(values["pregate_num_requests_waiting"], 7);
  EXPECT_EQ(values["pregate_num_requests_running"], 3);
  EXPECT_EQ(values["pregate_kv_cache_usage_perc"], 0.25);
  EXPECT_EQ(values["pregate_cache_config_info{block_size=\"16\",num_gpu_blocks=\"1234\"}"], 1);
  EXPECT_EQ(values["pregate_num_preemptions_total"], 5);
  EXPECT_EQ(values["pregate_prefix_cache_queries_total"], 1000);
  EXPECT_EQ(values["pregate_prefix_cache_hits_total"], 640);
  EXPECT_EQ(values["pregate_spec_decode_num_drafts_total"], 10);
  EXPECT_EQ(values["pregate_spec_decode_num_draft_tokens_total"], 40);
  EXPECT_EQ(values["pregate_spec_decode_num_accepted_tokens_total"], 25);
  // No step since the start: the age is that of the metrics, however old the engine's clock is.
  EXPECT_LT(values["pregate_last_step_age_seconds"], 30);
  engine_.engine_stats.last_step = absl::Now();
  const double age = Values(Page())["pregate_last_step_age_seconds"];
  EXPECT_GE(age, 0);
  EXPECT_LT(age, 5);
}

// A server takes a step before it has clients, which find counters at zero.
TEST_F(MetricsTest, WhatWasCountedBeforeIsLeftOut) {
  EngineStats before;
  before.waiting = 2;
  before.preemptions = before.prefix_queries = before.prefix_hits = 1;
  before.drafts = before.draft_tokens = before.accepted_tokens = 1;
  before.experts.experts = 3;
  before.experts.hits = before.experts.late = before.experts.misses = 4;
  before.experts.loads[0] = before.experts.load_bytes[1] = before.experts.wasted_bytes[2] = 5;
  before.experts.all_resident = false;
  engine_.engine_stats = before;
  Metrics metrics(&engine_, "model", MetricsCompat::kNone, before);
  const std::map<std::string, double> values = Values(metrics.Text());
  for (const auto& [series, value] : values) {
    if (absl::StrContains(series, "_cache_") && absl::StrContains(series, "_total")) {
      EXPECT_EQ(value, 0) << series;
    }
  }
  EXPECT_EQ(values.at("pregate_num_requests_waiting"), 2);  // no counter
  engine_.engine_stats.experts.hits += 7;
  EXPECT_EQ(Values(metrics.Text())["pregate_expert_cache_requests_total{outcome=\"hit\"}"], 7);
}

TEST_F(MetricsTest, AnswersAreCountedWhole) {
  Start();
  for (int i = 0; i < 3; ++i) metrics_->ObserveAnswer(SomeAnswer());
  AnswerRecord cancelled;  // in the queue
  cancelled.finish = FinishReason::kCancelled;
  cancelled.prompt_tokens = 8;
  cancelled.timing.queue = cancelled.end_to_end = absl::Seconds(2);
  metrics_->ObserveAnswer(cancelled);
  AnswerRecord single = SomeAnswer();  // one token: no gap between tokens
  single.finish = FinishReason::kStop;
  single.completion_tokens = 1;
  metrics_->ObserveAnswer(single);
  metrics_->ObserveAnswer(AnswerRecord());  // nothing has ended
  AnswerRecord drained;                     // cut when the drain was over
  drained.finish = FinishReason::kError;
  drained.drained = true;
  drained.timing.queue = drained.end_to_end = absl::Seconds(3);
  metrics_->ObserveAnswer(drained);

  std::map<std::string, double> values = Values(Page());
  EXPECT_EQ(values["pregate_request_success_total{finished_reason=\"length\"}"], 3);
  EXPECT_EQ(values["pregate_request_success_total{finished_reason=\"abort\"}"], 1);
  EXPECT_EQ(values["pregate_request_success_total{finished_reason=\"stop\"}"], 1);
  EXPECT_EQ(values["pregate_request_success_total{finished_reason=\"deadline\"}"], 0);
  EXPECT_EQ(values["pregate_request_success_total{finished_reason=\"error\"}"], 0);
  EXPECT_EQ(values["pregate_request_success_total{finished_reason=\"drain\"}"], 1);
  EXPECT_EQ(values["pregate_prompt_tokens_total"], 4 * 30);
  EXPECT_EQ(values["pregate_e2e_request_latency_seconds_count"], 6);
  EXPECT_DOUBLE_EQ(values["pregate_e2e_request_latency_seconds_sum"], 4 * 0.521 + 2 + 3);
  EXPECT_EQ(values["pregate_request_queue_time_seconds_count"], 6);
  EXPECT_EQ(values["pregate_request_queue_time_seconds_bucket{le=\"0.005\"}"], 4);
  EXPECT_EQ(values["pregate_request_queue_time_seconds_bucket{le=\"1.5\"}"], 4);
  EXPECT_EQ(values["pregate_request_queue_time_seconds_bucket{le=\"2\"}"], 5);
  EXPECT_EQ(values["pregate_request_queue_time_seconds_bucket{le=\"+Inf\"}"], 6);
  EXPECT_EQ(values["pregate_time_to_first_token_seconds_count"], 4);
  EXPECT_EQ(values["pregate_time_to_first_token_seconds_bucket{le=\"0.02\"}"], 4);
  EXPECT_EQ(values["pregate_time_to_first_token_seconds_bucket{le=\"0.01\"}"], 0);
  EXPECT_EQ(values["pregate_request_prefill_time_seconds_count"], 4);
  EXPECT_EQ(values["pregate_request_decode_time_seconds_count"], 4);
  EXPECT_EQ(values["pregate_request_time_per_output_token_seconds_count"], 3);
  EXPECT_DOUBLE_EQ(values["pregate_request_time_per_output_token_seconds_sum"], 3 * 0.05);
  EXPECT_EQ(values["pregate_request_prompt_tokens_sum"], 4 * 30 + 8);
  EXPECT_EQ(values["pregate_request_generation_tokens_sum"], 3 * 11 + 1);
}

TEST_F(MetricsTest, StepsAndGapsAndRejections) {
  Start();
  StepStats step;
  step.plan = absl::Microseconds(20);
  step.execute = absl::Milliseconds(7);
  step.sample = absl::Microseconds(300);
  step.commit = absl::Microseconds(50);
  step.rows = 70;
  step.prompt_tokens = 64;
  step.generated_tokens = 7;
  for (int i = 0; i < 10; ++i) metrics_->ObserveStep(step);
  metrics_->ObserveInterToken(absl::Microseconds(900));
  metrics_->ObserveInterToken(absl::Hours(1));
  metrics_->CountRejection(Rejection::kQueueFull);
  metrics_->CountRejection(Rejection::kQueueFull);
  metrics_->CountRejection(Rejection::kInvalid);

  std::map<std::string, double> values = Values(Page());
  EXPECT_EQ(values["pregate_step_seconds_count{phase=\"plan\"}"], 10);
  EXPECT_DOUBLE_EQ(values["pregate_step_seconds_sum{phase=\"execute\"}"], 0.07);
  EXPECT_EQ(values["pregate_step_seconds_bucket{phase=\"sample\",le=\"0.0002\"}"], 0);
  EXPECT_EQ(values["pregate_step_seconds_bucket{phase=\"sample\",le=\"0.0005\"}"], 10);
  EXPECT_EQ(values["pregate_step_seconds_count{phase=\"commit\"}"], 10);
  EXPECT_EQ(values["pregate_step_rows_sum"], 700);
  EXPECT_EQ(values["pregate_iteration_tokens_total_sum"], 710);
  EXPECT_EQ(values["pregate_generation_tokens_total"], 70);
  EXPECT_EQ(values["pregate_inter_token_latency_seconds_bucket{le=\"0.001\"}"], 1);
  EXPECT_EQ(values["pregate_inter_token_latency_seconds_bucket{le=\"80\"}"], 1);
  EXPECT_EQ(values["pregate_inter_token_latency_seconds_bucket{le=\"+Inf\"}"], 2);
  EXPECT_EQ(values["pregate_requests_rejected_total{reason=\"queue_full\"}"], 2);
  EXPECT_EQ(values["pregate_requests_rejected_total{reason=\"invalid\"}"], 1);
  EXPECT_EQ(values["pregate_requests_rejected_total{reason=\"draining\"}"], 0);
}

TEST_F(MetricsTest, ExpertsAreThereWithARouterAlone) {
  Start();
  EXPECT_THAT(Page(), ::testing::Not(HasSubstr("expert")));
  ExpertCounters& experts = engine_.engine_stats.experts;
  experts.experts = 3;
  experts.hits = 40;
  experts.late = 5;
  experts.misses = 7;
  experts.loads = {11, 1, 0};
  experts.load_bytes = {1100, 100, 0};
  experts.wasted_bytes = {0, 50, 0};
  experts.lookahead = {6, 3, 0, 0, 0, 0, 1, 2};
  experts.lookahead_steps = 29;
  StepStats step;
  step.pregate = absl::Microseconds(300);
  step.expert_rows = {4, 0, 1};
  step.expert_stall = absl::Milliseconds(3);
  for (int i = 0; i < 2; ++i) metrics_->ObserveStep(step);

  std::map<std::string, double> values = Values(Page());
  EXPECT_DOUBLE_EQ(values["pregate_step_seconds_sum{phase=\"pregate\"}"], 0.0006);
  EXPECT_EQ(values["pregate_distinct_experts_per_step_bucket{le=\"1\"}"], 0);
  EXPECT_EQ(values["pregate_distinct_experts_per_step_bucket{le=\"2\"}"], 2);
  EXPECT_EQ(values["pregate_expert_rows_total{expert=\"0\"}"], 8);
  EXPECT_EQ(values["pregate_expert_rows_total{expert=\"1\"}"], 0);
  EXPECT_EQ(values["pregate_expert_rows_total{expert=\"2\"}"], 2);
  EXPECT_FALSE(values.contains("pregate_expert_rows_total{expert=\"3\"}"));
  EXPECT_EQ(values["pregate_expert_cache_requests_total{outcome=\"hit\"}"], 40);
  EXPECT_EQ(values["pregate_expert_cache_requests_total{outcome=\"late\"}"], 5);
  EXPECT_EQ(values["pregate_expert_cache_requests_total{outcome=\"miss\"}"], 7);
  EXPECT_EQ(values["pregate_expert_loads_total{cause=\"known\"}"], 11);
  EXPECT_EQ(values["pregate_expert_load_bytes_total{cause=\"guessed\"}"], 100);
  EXPECT_EQ(values["pregate_expert_wasted_bytes_total{cause=\"known\"}"], 0);
  EXPECT_EQ(values["pregate_expert_wasted_bytes_total{cause=\"guessed\"}"], 50);
  EXPECT_DOUBLE_EQ(values["pregate_expert_stall_seconds_total"], 0.006);
  EXPECT_EQ(values["pregate_expert_lookahead_steps_bucket{le=\"0\"}"], 6);
  EXPECT_EQ(values["pregate_expert_lookahead_steps_bucket{le=\"6\"}"], 10);
  EXPECT_EQ(values["pregate_expert_lookahead_steps_count"], 12);
  EXPECT_EQ(values["pregate_expert_lookahead_steps_sum"], 29);
  // Everything fits: nothing is compared.
  EXPECT_FALSE(values.contains("pregate_expert_shadow_hit_ratio{policy=\"lru\"}"));

  experts.all_resident = false;
  experts.shadow_hit_ratio = {0.3, 0.5, 0.4, 0.45, 0.8};
  experts.floor_hit_ratio = 0.29;
  values = Values(Page());
  EXPECT_EQ(values["pregate_expert_shadow_hit_ratio{policy=\"lru\"}"], 0.5);
  EXPECT_EQ(values["pregate_expert_shadow_hit_ratio{policy=\"belady_offline\"}"], 0.8);
  EXPECT_EQ(values["pregate_expert_floor_hit_ratio"], 0.29);
  if (!HavePromtool()) GTEST_SKIP() << "promtool is not installed";
  EXPECT_THAT(PromtoolFindings(Page()), ::testing::SizeIs(1));
}

TEST_F(MetricsTest, WhoIsTurnedAwayAtTheDoorIsCounted) {
  Start();
  std::map<std::string, double> values = Values(Page());
  for (const char* listener : {"grpc", "http"}) {
    const std::string series =
        absl::StrCat("pregate_tls_handshakes_failed_total{listener=\"", listener, "\"}");
    ASSERT_TRUE(values.contains(series));
    EXPECT_EQ(values[series], 0);
  }
  EXPECT_EQ(values["pregate_requests_rejected_total{reason=\"unauthenticated\"}"], 0);
  EXPECT_FALSE(values.contains("pregate_tls_certificate_expiry_timestamp_seconds"));
  EXPECT_THAT(Page(), ::testing::Not(HasSubstr("pregate_files_in_force")));

  metrics_->CountRejection(Rejection::kUnauthenticated);
  metrics_->CountFailedHandshakes(Listener::kHttp, 3);
  metrics_->SetCertificateExpiry(absl::FromUnixSeconds(1'900'000'000));
  values = Values(Page());
  EXPECT_EQ(values["pregate_requests_rejected_total{reason=\"unauthenticated\"}"], 1);
  EXPECT_EQ(values["pregate_tls_handshakes_failed_total{listener=\"http\"}"], 3);
  EXPECT_EQ(values["pregate_tls_handshakes_failed_total{listener=\"grpc\"}"], 0);
  EXPECT_EQ(values["pregate_tls_certificate_expiry_timestamp_seconds"], 1'900'000'000);
  const std::string certificates = "pregate_files_in_force{files=\"certificates\"}";
  EXPECT_FALSE(values.contains(certificates));
  metrics_->SetFilesInForce(WatchedFiles::kCertificates, true);
  values = Values(Page());
  EXPECT_EQ(values[certificates], 1);
  EXPECT_FALSE(values.contains("pregate_files_in_force{files=\"tokens\"}"));  // there are none
  metrics_->SetFilesInForce(WatchedFiles::kCertificates, false);
  EXPECT_EQ(Values(Page())[certificates], 0);
  EXPECT_TRUE(absl::StrContains(metrics_->Text(), "pregate_requests_rejected_total{reason="));
}

// Names and types that other programs are written against.
constexpr std::pair<const char*, const char*> kSharedWithVllm[] = {
    {"num_requests_waiting", "gauge"},
    {"num_requests_running", "gauge"},
    {"kv_cache_usage_perc", "gauge"},
    {"cache_config_info", "gauge"},
    {"time_to_first_token_seconds", "histogram"},
    {"inter_token_latency_seconds", "histogram"},
    {"request_time_per_output_token_seconds", "histogram"},
    {"e2e_request_latency_seconds", "histogram"},
    {"request_queue_time_seconds", "histogram"},
    {"request_prefill_time_seconds", "histogram"},
    {"request_decode_time_seconds", "histogram"},
    {"request_prompt_tokens", "histogram"},
    {"request_generation_tokens", "histogram"},
    {"iteration_tokens_total", "histogram"},
    {"prompt_tokens_total", "counter"},
    {"generation_tokens_total", "counter"},
    {"request_success_total", "counter"},
    {"num_preemptions_total", "counter"},
    {"prefix_cache_queries_total", "counter"},
    {"prefix_cache_hits_total", "counter"},
    {"spec_decode_num_drafts_total", "counter"},
    {"spec_decode_num_draft_tokens_total", "counter"},
    {"spec_decode_num_accepted_tokens_total", "counter"},
};
constexpr std::pair<const char*, const char*> kOurs[] = {
    {"requests_rejected_total", "counter"},
    {"tls_handshakes_failed_total", "counter"},
    {"step_seconds", "histogram"},
    {"step_rows", "histogram"},
    {"last_step_age_seconds", "gauge"},
    {"overloaded", "gauge"},
    {"build_info", "gauge"},
};

TEST_F(MetricsTest, TheAgreedNamesAreThere) {
  Start(MetricsCompat::kVllm);
  const std::string page = Page();
  for (const auto& [name, type] : kSharedWithVllm) {
    EXPECT_THAT(page, HasSubstr(absl::StrCat("# TYPE pregate_", name, " ", type, "\n")));
    EXPECT_THAT(page, HasSubstr(absl::StrCat("# TYPE vllm:", name, " ", type, "\n")));
  }
  for (const auto& [name, type] : kOurs) {
    EXPECT_THAT(page, HasSubstr(absl::StrCat("# TYPE pregate_", name, " ", type, "\n")));
    EXPECT_THAT(page, ::testing::Not(HasSubstr(absl::StrCat("vllm:", name))));
  }
}

TEST_F(MetricsTest, PromtoolAcceptsThePage) {
  if (!HavePromtool()) GTEST_SKIP() << "promtool is not installed";
  Start();
  metrics_->ObserveAnswer(SomeAnswer());
  metrics_->ShowSpans();
  // The name is vLLM's, and so is the histogram behind it.
  EXPECT_THAT(PromtoolFindings(Page()),
              ::testing::ElementsAre("pregate_iteration_tokens_total non-counter metrics should "
                                     "not have \"_total\" suffix"));
  EXPECT_THAT(PromtoolFindings("# TYPE a counter\na 1\n"), ::testing::Not(::testing::IsEmpty()));
}

TEST_F(MetricsTest, PromtoolDislikesOnlyTheNamesOfVllm) {
  if (!HavePromtool()) GTEST_SKIP() << "promtool is not installed";
  Start(MetricsCompat::kVllm);
  metrics_->ObserveAnswer(SomeAnswer());
  for (const std::string& finding : PromtoolFindings(Page())) {
    EXPECT_TRUE(absl::EndsWith(finding, "metric names should not contain ':'") ||
                absl::StrContains(finding, "iteration_tokens_total non-counter"))
        << finding;
  }
}

TEST_F(MetricsTest, VllmNamesCarryTheSameValuesAndTheModelsName) {
  Start(MetricsCompat::kVllm);
  metrics_->ObserveAnswer(SomeAnswer());
  engine_.engine_stats.waiting = 2;
  const std::map<std::string, double> values = Values(Page());
  const std::string label = R"(model_name="smol \"135M\"\n",engine="0")";
  EXPECT_EQ(values.at(absl::StrCat("vllm:num_requests_waiting{", label, "}")), 2);
  EXPECT_EQ(
      values.at(absl::StrCat("vllm:request_success_total{finished_reason=\"length\",", label, "}")),
      1);
  int vllm_series = 0;
  for (const auto& [series, value] : values) {
    if (!absl::StartsWith(series, "vllm:")) continue;
    ++vllm_series;
    ASSERT_THAT(series, HasSubstr(label));
    const std::string own = absl::StrReplaceAll(series, {{"vllm:", "pregate_"},
                                                         {absl::StrCat("{", label, "}"), ""},
                                                         {absl::StrCat("{", label, ","), "{"},
                                                         {absl::StrCat(",", label), ""}});
    ASSERT_TRUE(values.contains(own)) << series << " as " << own;
    EXPECT_EQ(values.at(own), value) << series;
  }
  EXPECT_GT(vllm_series, 200);
}

TEST_F(MetricsTest, WithoutCompatNoForeignNames) {
  Start();
  for (const auto& [series, value] : Values(Page())) {
    EXPECT_TRUE(absl::StartsWith(series, "pregate_") || absl::StartsWith(series, "process_") ||
                absl::StartsWith(series, "exposer_"))
        << series;
  }
}

TEST_F(MetricsTest, TheProcessIsDescribed) {
  Start();
  std::map<std::string, double> values = Values(Page());
  EXPECT_GT(values["process_resident_memory_bytes"], 1 << 20);
  EXPECT_GT(values["process_virtual_memory_bytes"], values["process_resident_memory_bytes"]);
  EXPECT_GE(values["process_threads"], 3);
  const double start = values["process_start_time_seconds"];
  EXPECT_NEAR(start, absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()), 600);
  EXPECT_GT(values["process_max_fds"], values["process_open_fds"]);
  const int file = dup(0);
  const double open = Values(Page())["process_open_fds"];
  close(file);
  EXPECT_GE(open, values["process_open_fds"] + 1);
  EXPECT_EQ(values["pregate_build_info{version=\"" PREGATE_VERSION "\"}"], 1);
}

TEST_F(MetricsTest, OnlyTheMetricsAreServed) {
  Start();
  EXPECT_THAT(Get(metrics_->port()), HasSubstr("200 OK"));
  EXPECT_THAT(Get(metrics_->port(), "/"), HasSubstr("404"));
  EXPECT_THAT(Get(metrics_->port(), "/../../etc/passwd"), ::testing::Not(HasSubstr("root:")));
}

TEST_F(MetricsTest, APortInUseIsAnError) {
  Start();
  Metrics second(&engine_, "smol", MetricsCompat::kNone);
  const absl::Status status = second.StartServer("127.0.0.1", metrics_->port());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat("127.0.0.1:", metrics_->port())));
  EXPECT_EQ(second.port(), 0);
  EXPECT_FALSE(second.StartServer("no.such.host.invalid", 0).ok());
  EXPECT_TRUE(second.StartServer("::1", 0).ok());
}

// Who connects and says nothing, or asks and never reads, delays the next scrape by no more than
// the listener's timeout, and observing not at all.
TEST_F(MetricsTest, AStuckScraperIsGivenUp) {
  Start();
  const Connection silent(metrics_->port());
  Connection deaf(metrics_->port());
  deaf.Ask("/metrics");
  const absl::Time start = absl::Now();
  for (int i = 0; i < 100000; ++i) metrics_->ObserveInterToken(absl::Milliseconds(i % 50));
  EXPECT_LT(absl::Now() - start, absl::Seconds(1));
  EXPECT_EQ(Values(Page())["pregate_inter_token_latency_seconds_count"], 100000);
  EXPECT_LT(absl::Now() - start, absl::Seconds(8));
}

TEST_F(MetricsTest, ManyThreadsObserveWhileOthersScrape) {
  Start();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) metrics_->ObserveInterToken(absl::Milliseconds(i % 100));
    });
  }
  for (int i = 0; i < 20; ++i) {
    std::map<std::string, double> values = Values(Page());
    EXPECT_EQ(values["pregate_inter_token_latency_seconds_bucket{le=\"+Inf\"}"],
              values["pregate_inter_token_latency_seconds_count"]);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Values(Page())["pregate_inter_token_latency_seconds_count"], 80000);
}

// The edges that vLLM publishes for the histograms of the same name.
TEST(BucketEdges, HoldThoseOfVllm) {
  EXPECT_THAT(FirstTokenEdges(), IsSupersetOf({0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                                               0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                                               20.0,  40.0,  80.0, 160.0, 640.0, 2560.0}));
  EXPECT_THAT(TokenGapEdges(),
              IsSupersetOf({0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
                            5.0, 7.5, 10.0, 20.0, 40.0, 80.0}));
  EXPECT_THAT(LatencyEdges(),
              IsSupersetOf({0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
                            30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0}));
  EXPECT_THAT(StepEdges(), IsSupersetOf({1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
                                         2048.0, 4096.0, 8192.0, 16384.0}));
  std::vector<double> one_two_five;  // up to the longest context
  for (double power = 1; power <= 1e6; power *= 10) {
    for (double mantissa : {1, 2, 5}) {
      if (mantissa * power <= 1 << 20) one_two_five.push_back(mantissa * power);
    }
  }
  EXPECT_THAT(LengthEdges(), IsSupersetOf(one_two_five));
}

TEST(BucketEdges, AscendAndBeginLow) {
  for (const absl::Span<const double> edges : {FirstTokenEdges(), TokenGapEdges(), LatencyEdges(),
                                               PhaseEdges(), LengthEdges(), StepEdges()}) {
    EXPECT_TRUE(std::is_sorted(edges.begin(), edges.end()));
    EXPECT_EQ(std::adjacent_find(edges.begin(), edges.end()), edges.end());
  }
  EXPECT_LE(TokenGapEdges().front(), 0.001);
  EXPECT_LE(LatencyEdges().front(), 0.005);
}

}  // namespace
}  // namespace pregate
