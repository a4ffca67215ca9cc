// The load generator's arithmetic: arrival processes, traces, percentiles.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "load_tests/loadgen/arrivals.h"
#include "load_tests/loadgen/options.h"
#include "load_tests/loadgen/prompts.h"
#include "load_tests/loadgen/report.h"

namespace pregate {
namespace {

TEST(Arrivals, GapsHaveTheAskedMeanAndVariation) {
  for (const double burstiness : {0.5, 1.0, 3.0}) {
    SyntheticLoad load;
    load.rate = 20;
    load.burstiness = burstiness;
    load.duration_s = 2000;
    load.prompt_tokens = {10, 20};
    const std::vector<Arrival> arrivals = MakeArrivals(load);
    double previous = 0, sum = 0, squares = 0;
    for (const Arrival& arrival : arrivals) {
      ASSERT_GE(arrival.time_s, previous);
      EXPECT_GE(arrival.prompt_tokens, 10);
      EXPECT_LE(arrival.prompt_tokens, 20);
      const double gap = arrival.time_s - previous;
      sum += gap;
      squares += gap * gap;
      previous = arrival.time_s;
    }
    const double count = static_cast<double>(arrivals.size());
    const double mean = sum / count;
    const double variation = std::sqrt(squares / count - mean * mean) / mean;
    EXPECT_NEAR(mean, 0.05, 0.005) << burstiness;
    EXPECT_NEAR(variation, burstiness, 0.1 * burstiness) << burstiness;
  }
}

TEST(Arrivals, AShortRunOffersItsRateToo) {
  for (const double burstiness : {1.0, 3.0}) {
    SyntheticLoad load;
    load.rate = 0.5;
    load.burstiness = burstiness;
    load.duration_s = 30;
    size_t requests = 0;
    constexpr int kRuns = 4000;
    for (int i = 0; i < kRuns; ++i) {
      load.seed = static_cast<uint64_t>(i);
      requests += MakeArrivals(load).size();
    }
    EXPECT_NEAR(static_cast<double>(requests) / kRuns, 15, 0.75) << burstiness;
  }
}

// As many answers end in each of the first steps as in any later one.
TEST(Arrivals, ALoopThatBeginsMidwayIsInItsStride) {
  SyntheticLoad load;
  load.prompt_tokens = {20, 120};
  load.max_tokens = {80, 320};
  constexpr int64_t kClients = 20000;
  std::vector<Arrival> requests = MakeRequests(load, kClients + 1);
  const Arrival next = requests.back();
  BeginMidway(load, kClients, &requests);
  EXPECT_EQ(requests.back().prompt_tokens, next.prompt_tokens);
  EXPECT_EQ(requests.back().max_tokens, next.max_tokens);
  double early = 0, all = 0;
  for (int64_t i = 0; i < kClients; ++i) {
    EXPECT_EQ(requests[i].prompt_tokens, 1);
    early += requests[i].max_tokens <= 40;
    all += requests[i].max_tokens;
  }
  EXPECT_NEAR(early / kClients, 40.0 / 200, 0.02);  // 200: the mean of whole answers
  // E[n (n + 1) / 2] / E[n] of n in 80..320.
  EXPECT_NEAR(all / kClients, 112.6, 2.5);
}

TEST(Arrivals, SameSeedSameLoad) {
  SyntheticLoad load;
  const auto first = MakeArrivals(load), second = MakeArrivals(load);
  ASSERT_EQ(first.size(), second.size());
  for (size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i].time_s, second[i].time_s);
  load.seed = 2;
  EXPECT_NE(MakeArrivals(load)[0].time_s, first[0].time_s);
}

TEST(Trace, ReadsTheFormatOfTheAzureTrace) {
  const auto trace = ParseTrace(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-11-16 18:15:46.6805900,374,44\r\n"
      "2023-11-16 18:15:50.6805900,396,0\r\n"
      "2023-11-16 18:15:56.6805900,9000,10\n",
      {.speed = 2.0});
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->size(), 3u);
  EXPECT_EQ((*trace)[0].time_s, 0);
  EXPECT_DOUBLE_EQ((*trace)[1].time_s, 2);
  EXPECT_DOUBLE_EQ((*trace)[2].time_s, 5);
  EXPECT_EQ((*trace)[0].prompt_tokens, 374);
  EXPECT_EQ((*trace)[1].max_tokens, 1);
  EXPECT_EQ((*trace)[2].prompt_tokens, 4096);
}

TEST(Trace, ScalesAndCutsLengthsAndTime) {
  constexpr char kRows[] =
      "2023-11-16 18:15:46,400,40\n"
      "2023-11-16 18:15:56,8000,1\n"
      "2023-11-16 18:16:06,1,1\n";
  const auto trace = ParseTrace(kRows, {.speed = 10,
                                        .length_scale = 0.25,
                                        .duration_s = 1.5,
                                        .max_prompt_tokens = 1000,
                                        .max_max_tokens = 8});
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->size(), 2u);
  EXPECT_EQ((*trace)[0].prompt_tokens, 100);
  EXPECT_EQ((*trace)[0].max_tokens, 8);
  EXPECT_DOUBLE_EQ((*trace)[1].time_s, 1);
  EXPECT_EQ((*trace)[1].prompt_tokens, 1000);
  EXPECT_EQ((*trace)[1].max_tokens, 1);
}

TEST(Trace, RowsOutOfOrderAreSorted) {
  const auto trace =
      ParseTrace("2023-11-16 18:15:48,2,2\n2023-11-16 18:15:46,1,1\n2023-11-16 18:15:47,3,3\n", {});
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ((*trace)[0].time_s, 0);
  EXPECT_EQ((*trace)[0].prompt_tokens, 1);
  EXPECT_EQ((*trace)[2].time_s, 2);
}

TEST(Trace, NamesTheBrokenLine) {
  for (const char* row :
       {"yesterday,1,2", "2023-11-16 18:15:46,1", "2023-11-16 18:15:46,-1,2",
        "2023-11-16 18:15:46,1,2,3", "2023-11-16 18:15:46,x,2", "infinite-future,1,2",
        "infinite-past,1,2", "2023-11-16 18:15:46,99999999999,2", "2023-11-16 18:15:46,1e3,2",
        "2023-02-30 18:15:46,1,2", ",,", "2023-11-16 18:15:46\t1\t2", "\xff\xfe,1,2"}) {
    const auto trace =
        ParseTrace(std::string("TIMESTAMP,ContextTokens,GeneratedTokens\n") + row, {});
    EXPECT_FALSE(trace.ok()) << row;
    EXPECT_EQ(trace.status().message().substr(0, 13), "trace: line 2") << trace.status();
  }
  EXPECT_FALSE(ParseTrace("", {}).ok());
}

TEST(Lengths, Parse) {
  EXPECT_EQ(ParseLengthRange("64")->high, 64);
  EXPECT_EQ(ParseLengthRange("16:256")->low, 16);
  for (const char* bad : {"", "0", "5:4", "x", "1:2:3", "-1", "1000001"}) {
    EXPECT_FALSE(ParseLengthRange(bad).ok()) << bad;
  }
}

TEST(Prompts, AreRandomIdsOfTheSeed) {
  const Prompts prompts({.vocab_size = 100, .seed = 3});
  const std::vector<uint32_t> ids = prompts.Make(0, 1000);
  ASSERT_EQ(ids.size(), 1000u);
  EXPECT_LT(*std::max_element(ids.begin(), ids.end()), 100u);
  EXPECT_GT(std::set<uint32_t>(ids.begin(), ids.end()).size(), 95u);
  EXPECT_EQ(ids, prompts.Make(0, 1000));
  EXPECT_NE(ids, prompts.Make(1, 1000));
  EXPECT_NE(ids, Prompts({.vocab_size = 100, .seed = 4}).Make(0, 1000));
}

TEST(Prompts, ShareTheirBeginningOnly) {
  const Prompts prompts({.vocab_size = 1u << 30, .shared_prefix = 0.6});
  const std::vector<uint32_t> a = prompts.Make(0, 10), b = prompts.Make(1, 20);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 6, b.begin()));
  for (size_t i = 6; i < 10; ++i) EXPECT_NE(a[i], b[i]);
}

TEST(Prompts, ArePiecesOfAText) {
  std::vector<uint32_t> text;
  for (uint32_t i = 0; i < 500; ++i) text.push_back(7 * i % 500);
  const Prompts prompts({.vocab_size = 500, .seed = 3, .text = text});
  std::set<uint32_t> starts;
  for (int64_t number = 0; number < 40; ++number) {
    const std::vector<uint32_t> ids = prompts.Make(number, 600);  // the text goes round
    ASSERT_EQ(ids.size(), 600u);
    for (size_t i = 1; i < ids.size(); ++i) ASSERT_EQ(ids[i], (ids[i - 1] + 7) % 500);
    starts.insert(ids[0]);
  }
  EXPECT_GT(starts.size(), 30u);
  EXPECT_EQ(prompts.Make(5, 9), prompts.Make(5, 9));
}

TEST(Options, OneLoadIsRequired) {
  const auto parse = [](std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "loadgen");
    return ParseOptions(static_cast<int>(arguments.size()), arguments.data());
  };
  for (const std::vector<const char*>& bad :
       std::vector<std::vector<const char*>>{{},
                                             {"--rate", "0"},
                                             {"--rate", "nan"},
                                             {"--rate", "1", "--concurrency", "2"},
                                             {"--rate", "1000", "--duration", "10000"},
                                             {"--concurrency", "0"},
                                             {"--concurrency", "2", "--duration", "3"},
                                             {"--burstiness", "3", "--concurrency", "2"},
                                             {"--trace", "/does/not/exist"},
                                             {"--rate", "1", "--max-tokens", "0"},
                                             {"--rate", "1", "--shared-prefix", "1.5"}}) {
    EXPECT_FALSE(parse(bad).ok()) << (bad.empty() ? "nothing" : bad[0]);
  }
  const auto closed = parse({"--concurrency", "3", "--requests", "7", "--max-tokens", "2:4"});
  ASSERT_TRUE(closed.ok()) << closed.status();
  const auto load = MakeLoad(**closed, 4096);
  ASSERT_TRUE(load.ok()) << load.status();
  EXPECT_EQ(load->concurrency, 3);
  EXPECT_EQ(load->requests.size(), 7u);
  EXPECT_FALSE(MakeLoad(**closed, 60).ok()) << "64 + 4 tokens do not fit";
}

TEST(Summarize, NearestRank) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Distribution d = Summarize(values);
  EXPECT_EQ(d.p50, 50);
  EXPECT_EQ(d.p95, 95);
  EXPECT_EQ(d.p99, 99);
  EXPECT_EQ(d.max, 100);
  EXPECT_EQ(d.mean, 50.5);
  EXPECT_EQ(Summarize({}).count, 0);
  EXPECT_EQ(Summarize({7}).p50, 7);
}

TEST(Report, LatencyCountsFromTheIntendedTime) {
  RequestRecord late;
  late.intended_s = 1;
  late.sent_s = 3;
  late.token_s = {4, 5, 7};
  late.token_counts = {1, 1, 2};
  late.end_s = 7;
  RequestRecord refused;
  refused.intended_s = refused.sent_s = 2;
  refused.end_s = 2.001;
  refused.status = "RESOURCE_EXHAUSTED";
  const Report report = MakeReport({late, refused}, 10, 10);
  EXPECT_EQ(report.time_to_first_token.p50, 3);
  EXPECT_EQ(report.end_to_end.p50, 6);
  EXPECT_EQ(report.inter_token.count, 3);
  EXPECT_EQ(report.inter_token.max, 2);
  EXPECT_EQ(report.longest_gap.p95, 2);
  EXPECT_EQ(report.lag.max, 2);
  EXPECT_EQ(report.statuses.at("RESOURCE_EXHAUSTED"), 1);
  EXPECT_DOUBLE_EQ(report.output_tokens_per_s, 4 / 6.0);
  EXPECT_EQ(MakeReport({late}, 2.5, 10).goodput_per_s, 0);
  EXPECT_GT(MakeReport({late}, 3, 1).goodput_per_s, 0);
}

TEST(Report, AGeneratorThatIsLateOnceInAHundredHasKeptUp) {
  std::vector<RequestRecord> records(200);
  records[0].sent_s = records[1].sent_s = 1;
  EXPECT_TRUE(KeptUp(MakeReport(records, 1, 1)));
  records[2].sent_s = kMaxLagP99S + 0.001;
  EXPECT_FALSE(KeptUp(MakeReport(records, 1, 1)));
}

TEST(Report, WordsOfAServerMayBeAnyBytes) {
  RequestRecord record;
  record.status = "INTERNAL";
  record.error = "\xff\"\n";
  const Report report = MakeReport({record}, 1, 1);
  const std::string json = ToJson(report, {record}, "{\"label\": \"x\"}");
  EXPECT_EQ(nlohmann::json::parse(json)["summary"]["errors"]["INTERNAL"], "\xef\xbf\xbd\"\n");
  EXPECT_EQ(nlohmann::json::parse(json)["settings"]["label"], "x");
}

TEST(Report, CountsAnswersThatAreTooShort) {
  RequestRecord record;
  record.token_s = {1, 2};
  record.token_counts = {1, 1};
  record.max_tokens = 2;
  EXPECT_EQ(MakeReport({record}, 1, 1).short_answers, 0);
  record.max_tokens = 3;
  EXPECT_EQ(MakeReport({record}, 1, 1).short_answers, 1);
}

}  // namespace
}  // namespace pregate
