// Spans on their way to a collector that takes them, is slow, refuses, is full, or is not there.
#include "server/tracing/span_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "server/tracing/tracer.h"
#include "tests/server/fake_collector.h"
#include "tests/server/fake_engine.h"
#include "tests/server/scrape.h"

namespace pregate {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kExported[] = "pregate_trace_spans_exported_total";
constexpr char kLostInQueue[] = "pregate_trace_spans_dropped_total{reason=\"queue\"}";
constexpr char kLostByCollector[] = "pregate_trace_spans_dropped_total{reason=\"collector\"}";

class SpanExporterTest : public ::testing::Test {
 protected:
  SpanExporterTest() {
    options_.collector.host = "127.0.0.1";
    options_.collector.port = collector_.port();
    options_.resource = {{"service.name", "test"}};
    options_.interval = absl::Milliseconds(20);
    options_.first_backoff = absl::Milliseconds(20);
    options_.longest_backoff = absl::Milliseconds(80);
    options_.post_timeout = absl::Milliseconds(200);
    options_.tries = 3;
    options_.flush_time = absl::Milliseconds(300);
  }

  void Start() {
    exporter_ = std::make_unique<SpanExporter>(options_, &metrics_, [this](const std::string& n) {
      absl::MutexLock lock(&mutex_);
      notes_.push_back(n);
    });
  }

  void Add(int count) {
    std::vector<Span> spans(count);
    for (Span& span : spans) span.name = std::string("s");
    exporter_->Add(std::move(spans));
  }

  double Value(const std::string& series) {
    auto values = Values(metrics_.Text());
    EXPECT_EQ(values.count(series), 1u) << series;
    return values[series];
  }

  void WaitFor(const std::string& series, double value) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (Value(series) < value && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
    EXPECT_EQ(Value(series), value) << series;
  }

  std::vector<std::string> Notes() {
    absl::MutexLock lock(&mutex_);
    return notes_;
  }

  static size_t SpansOfBody(const std::string& body) {
    const auto json = nlohmann::json::parse(body);
    return json["resourceSpans"][0]["scopeSpans"][0]["spans"].size();
  }

  FakeEngine engine_;
  Metrics metrics_{&engine_, "m", MetricsCompat::kNone};
  FakeCollector collector_;
  SpanExporterOptions options_;
  absl::Mutex mutex_;
  std::vector<std::string> notes_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<SpanExporter> exporter_;
};

TEST_F(SpanExporterTest, ThePageHasItsSeriesOnlyWhereThereIsOne) {
  EXPECT_THAT(metrics_.Text(), Not(HasSubstr("trace_spans")));
  Start();
  EXPECT_EQ(Value(kExported), 0);
  EXPECT_EQ(Value(kLostInQueue), 0);
  EXPECT_EQ(Value(kLostByCollector), 0);
}

TEST_F(SpanExporterTest, SpansArePosted) {
  options_.collector.path = "/somewhere/v1/traces";
  Start();
  Add(4);
  const auto posts = collector_.WaitForPosts(1);
  EXPECT_THAT(posts[0].head, HasSubstr("POST /somewhere/v1/traces HTTP/1.1\r\n"));
  EXPECT_THAT(posts[0].head, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(posts[0].head,
              HasSubstr(absl::StrCat("Host: ", options_.collector.authority(), "\r\n")));
  EXPECT_EQ(SpansOfBody(posts[0].body), 4u);
  WaitFor(kExported, 4);
  EXPECT_THAT(Notes(), IsEmpty());
}

TEST_F(SpanExporterTest, BatchesAreBounded) {
  options_.max_batch_spans = 10;
  options_.interval = absl::Seconds(1);
  Start();
  for (int i = 0; i < 5; ++i) Add(5);
  WaitFor(kExported, 25);
  const auto posts = collector_.WaitForPosts(3);
  EXPECT_EQ(SpansOfBody(posts[0].body), 10u);
  EXPECT_EQ(SpansOfBody(posts[1].body), 10u);
  EXPECT_EQ(SpansOfBody(posts[2].body), 5u);
  EXPECT_LT(posts[1].time - posts[0].time, absl::Milliseconds(800));  // a full one does not wait
}

TEST_F(SpanExporterTest, ACollectorThatDoesNotAnswerFillsTheQueueAndNoMore) {
  collector_.Answer(std::vector<std::string>(100, ""));
  options_.max_queued_spans = 40;
  options_.max_batch_spans = 10;
  options_.post_timeout = absl::Seconds(20);
  Start();
  Add(10);
  collector_.WaitForPosts(1);  // and there it stays
  const absl::Time start = absl::Now();
  for (int i = 0; i < 1000; ++i) Add(4);
  EXPECT_LT(absl::Now() - start, absl::Seconds(1));  // nobody has waited
  EXPECT_EQ(Value(kLostInQueue), 4000 - 40);
  const absl::Time end = absl::Now();
  exporter_ = nullptr;
  EXPECT_LT(absl::Now() - end, options_.flush_time + absl::Seconds(2));
  EXPECT_EQ(Value(kLostByCollector), 50);
  EXPECT_EQ(Value(kExported), 0);
}

TEST_F(SpanExporterTest, ARequestIsQueuedWholeOrNotAtAll) {
  collector_.Answer({"", ""});
  options_.max_queued_spans = 10;
  options_.max_batch_spans = 4;
  options_.post_timeout = absl::Seconds(20);
  Start();
  Add(4);
  collector_.WaitForPosts(1);
  Add(4);
  Add(4);
  Add(4);  // would fit by half
  EXPECT_EQ(Value(kLostInQueue), 4);
  Add(2);
  EXPECT_EQ(Value(kLostInQueue), 4);
}

TEST_F(SpanExporterTest, WhatIsNotAnsweredInTimeIsTriedAgain) {
  collector_.Answer({""});
  Start();
  Add(3);
  WaitFor(kExported, 3);
  EXPECT_EQ(collector_.posts(), 2u);
  EXPECT_THAT(Notes(), ElementsAre(HasSubstr("does not take spans: read: takes too long"),
                                   HasSubstr("takes spans again")));
}

TEST_F(SpanExporterTest, ACollectorThatIsDownCostsItsBatches) {
  {
    FakeCollector gone;
    options_.collector.port = gone.port();
  }
  Start();
  Add(3);
  WaitFor(kLostByCollector, 3);
  Add(2);
  WaitFor(kLostByCollector, 5);
  EXPECT_EQ(Value(kExported), 0);
  EXPECT_THAT(Notes(), ElementsAre(HasSubstr("does not take spans: connect: ")));  // said once
}

TEST_F(SpanExporterTest, AHostWithoutAnAddressCostsItsBatches) {
  options_.collector.host = "no-such-host.invalid";
  options_.tries = 1;
  options_.post_timeout = absl::Seconds(30);
  Start();
  Add(3);
  WaitFor(kLostByCollector, 3);
  EXPECT_THAT(Notes(), ElementsAre(HasSubstr("no-such-host.invalid")));
}

TEST_F(SpanExporterTest, HostsAreFoundByName) {
  options_.collector.host = "localhost";
  options_.post_timeout = absl::Seconds(10);
  Start();
  Add(3);
  WaitFor(kExported, 3);
}

TEST_F(SpanExporterTest, ACollectorThatIsBusyIsAskedWhenItSays) {
  options_.first_backoff = absl::Milliseconds(1);
  collector_.Answer({FakeCollector::Reply(429, "Retry-After: 1\r\n")});
  Start();
  Add(3);
  WaitFor(kExported, 3);
  const auto posts = collector_.WaitForPosts(2);
  EXPECT_GE(posts[1].time - posts[0].time, absl::Milliseconds(950));
  EXPECT_EQ(posts[0].body, posts[1].body);
  EXPECT_EQ(Value(kLostByCollector), 0);
}

TEST_F(SpanExporterTest, ATooLongRetryAfterIsCutShort) {
  options_.longest_retry_after = absl::Milliseconds(50);
  collector_.Answer({FakeCollector::Reply(503, "Retry-After: 86400\r\n")});
  Start();
  Add(3);
  WaitFor(kExported, 3);
}

TEST_F(SpanExporterTest, WhatStaysBusyLosesTheBatchAfterItsTries) {
  collector_.Answer({FakeCollector::Reply(503), FakeCollector::Reply(502),
                     FakeCollector::Reply(504), FakeCollector::Reply(200)});
  Start();
  Add(3);
  WaitFor(kLostByCollector, 3);
  EXPECT_EQ(collector_.posts(), 3u);
  Add(2);
  WaitFor(kExported, 2);
  EXPECT_EQ(Value(kLostByCollector), 3);
}

TEST_F(SpanExporterTest, WhatIsRefusedIsNotTriedAgain) {
  collector_.Answer({FakeCollector::Reply(400, "Retry-After: 1\r\n", "no"),
                     FakeCollector::Reply(500), "HTTP/9 nonsense\r\n\r\n"});
  Start();
  Add(3);
  WaitFor(kLostByCollector, 3);
  Add(2);
  WaitFor(kLostByCollector, 5);
  EXPECT_EQ(collector_.posts(), 2u);
  Add(1);
  WaitFor(kExported, 1);  // what is no answer at all is tried again
  EXPECT_EQ(collector_.posts(), 4u);
  EXPECT_THAT(Notes(), Contains(HasSubstr("does not take spans: it answers 400")));
}

TEST_F(SpanExporterTest, SpansThatACollectorDidNotTakeAreCounted) {
  collector_.Answer({FakeCollector::Reply(200, "", R"({"partialSuccess":{"rejectedSpans":"2"}})"),
                     FakeCollector::Reply(200, "", std::string(100 << 10, ' '))});
  Start();
  Add(5);
  WaitFor(kExported, 3);
  EXPECT_EQ(Value(kLostByCollector), 2);
  Add(5);
  WaitFor(kExported, 8);  // an answer that is too long to read has a status all the same
}

TEST_F(SpanExporterTest, WhatWaitsIsSentAtTheEnd) {
  options_.interval = absl::Hours(1);
  options_.flush_time = absl::Seconds(10);
  Start();
  Add(5);
  exporter_ = nullptr;
  EXPECT_EQ(Value(kExported), 5);
  EXPECT_EQ(collector_.posts(), 1u);
}

TEST_F(SpanExporterTest, ABatchThatWaitsForItsTurnIsTriedOnceMoreAtTheEnd) {
  options_.flush_time = absl::Seconds(10);
  collector_.Answer({FakeCollector::Reply(503, "Retry-After: 60\r\n")});
  Start();
  Add(5);
  collector_.WaitForPosts(1);
  const absl::Time end = absl::Now();
  exporter_ = nullptr;
  EXPECT_LT(absl::Now() - end, absl::Seconds(5));
  EXPECT_EQ(Value(kExported), 5);
}

// --- What a tracer hands on ---

class TracerTest : public SpanExporterTest {
 protected:
  // The spans of one request, as the collector has got them; nothing: none came.
  nlohmann::json Record(const RequestRecord& record, double ratio, std::string* trace_id) {
    const size_t before = collector_.posts();
    Start();
    Tracer tracer("smol", ratio, exporter_.get());
    *trace_id = tracer.Record(record);
    exporter_ = nullptr;
    if (collector_.posts() == before) return {};
    const auto json = nlohmann::json::parse(collector_.WaitForPosts(before + 1).back().body);
    return json["resourceSpans"][0]["scopeSpans"][0]["spans"];
  }

  static RequestRecord FromCaller(uint8_t flags) {
    RequestRecord record;
    record.trace.trace_id.fill(0x0b);
    record.trace.span_id.fill(0x0c);
    record.trace.flags = flags;
    record.trace.state = "a=1";
    return record;
  }
};

TEST_F(TracerTest, FollowsItsCaller) {
  options_.flush_time = absl::Seconds(10);
  std::string trace_id;
  for (const double ratio : {0.0, 1.0}) {
    const auto spans = Record(FromCaller(kSampledFlag), ratio, &trace_id);
    ASSERT_THAT(spans, SizeIs(1));
    EXPECT_EQ(trace_id, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    EXPECT_EQ(spans[0]["traceId"], trace_id);
    EXPECT_EQ(spans[0]["parentSpanId"], "0c0c0c0c0c0c0c0c");
    EXPECT_EQ(spans[0]["traceState"], "a=1");
    EXPECT_EQ(spans[0]["flags"], 0x301);
    EXPECT_THAT(Record(FromCaller(0), ratio, &trace_id), IsEmpty());
    EXPECT_EQ(trace_id, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");  // for the log
  }
}

TEST_F(TracerTest, BeginsATraceWhereNobodyHas) {
  options_.flush_time = absl::Seconds(10);
  std::string trace_id, other;
  const auto spans = Record({}, 1, &trace_id);
  ASSERT_THAT(spans, SizeIs(1));
  EXPECT_THAT(trace_id, SizeIs(32));
  EXPECT_EQ(spans[0]["traceId"], trace_id);
  EXPECT_EQ(spans[0].count("parentSpanId"), 0u);
  EXPECT_EQ(spans[0]["flags"], 0x103);  // sampled, its id random, and no parent elsewhere
  Record({}, 1, &other);
  EXPECT_NE(trace_id, other);
  EXPECT_THAT(Record({}, 0, &trace_id), IsEmpty());
  EXPECT_EQ(trace_id, "");
}

TEST_F(TracerTest, BeginsAsManyAsItShould) {
  Start();
  Tracer tracer("smol", 0.25, exporter_.get());
  int sampled = 0;
  for (int i = 0; i < 4000; ++i) sampled += !tracer.Record({}).empty();
  EXPECT_NEAR(sampled, 1000, 6 * 27.4);  // six standard deviations
}

}  // namespace
}  // namespace pregate
