// The load generator's arithmetic: arrival processes, traces, percentiles.
#include <gtest/gtest.h>

#include <cmath>

#include "load_tests/loadgen/arrivals.h"
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

TEST(Arrivals, SameSeedSameLoad) {
  SyntheticLoad load;
  const auto first = MakeArrivals(load), second = MakeArrivals(load);
  ASSERT_EQ(first.size(), second.size());
  for (size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i].time_s, second[i].time_s);
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

TEST(Trace, NamesTheBrokenLine) {
  for (const char* row : {"yesterday,1,2", "2023-11-16 18:15:46,1", "2023-11-16 18:15:46,-1,2",
                          "2023-11-16 18:15:46,1,2,3", "2023-11-16 18:15:46,x,2"}) {
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
  EXPECT_EQ(report.lag.max, 2);
  EXPECT_EQ(report.statuses.at("RESOURCE_EXHAUSTED"), 1);
  EXPECT_DOUBLE_EQ(report.output_tokens_per_s, 4 / 6.0);
  EXPECT_EQ(MakeReport({late}, 2.5, 10).goodput_per_s, 0);
  EXPECT_GT(MakeReport({late}, 3, 1).goodput_per_s, 0);
}

}  // namespace
}  // namespace pregate
