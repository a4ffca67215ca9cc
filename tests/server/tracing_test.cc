// Which trace a request belongs to, what its spans say, and how they are written down.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/tracing/collector_url.h"
#include "server/tracing/otlp_json.h"
#include "server/tracing/request_spans.h"
#include "server/tracing/resource.h"
#include "server/tracing/tracer.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kSpan[] = "00f067aa0ba902b7";

TraceContext Read(absl::string_view traceparent, std::vector<absl::string_view> states = {}) {
  return ReadTraceContext({traceparent}, states);
}

std::string Parent(absl::string_view version, absl::string_view flags,
                   absl::string_view rest = "") {
  return absl::StrCat(version, "-", kTrace, "-", kSpan, "-", flags, rest);
}

TEST(Traceparent, SoundOnesAreRead) {
  const TraceContext context = Read(Parent("00", "01"));
  ASSERT_TRUE(context.valid());
  EXPECT_EQ(HexOf(context.trace_id), kTrace);
  EXPECT_EQ(HexOf(context.span_id), kSpan);
  const struct {
    std::string text;
    uint8_t flags;
  } cases[] = {
      {Parent("00", "00"), 0},
      {Parent("00", "02"), kRandomFlag},
      {Parent("00", "03"), kSampledFlag | kRandomFlag},
      {Parent("00", "ff"), kSampledFlag | kRandomFlag},  // what is not known is not passed on
      {Parent("01", "01"), kSampledFlag},
      {Parent("cc", "01", "-what-the-future-will-be-like"), kSampledFlag},
      {Parent("fe", "01", "-"), kSampledFlag},
  };
  for (const auto& [text, flags] : cases) {
    EXPECT_TRUE(Read(text).valid()) << text;
    EXPECT_EQ(Read(text).flags, flags) << text;
    EXPECT_EQ(Read(text).sampled(), (flags & kSampledFlag) != 0) << text;
  }
}

TEST(Traceparent, OthersAreIgnored) {
  std::vector<std::string> bad = {
      "",
      "00",
      Parent("ff", "01"),  // no version
      Parent("0g", "01"),
      Parent("0A", "01"),  // upper case
      Parent("00", "0A"),
      Parent("00", ".1"),
      Parent("00", "1"),        // too short
      Parent("00", "01", "-"),  // version 00 says no more
      Parent("00", "01", "-00"),
      Parent("00", "01", " "),
      Parent("01", "01", "00"),  // more, and no dash
      " " + Parent("00", "01"),
      absl::StrCat("00-00000000000000000000000000000000-", kSpan, "-01"),
      absl::StrCat("00-", kTrace, "-0000000000000000-01"),
      absl::StrCat("00-4BF92F3577B34DA6A3CE929D0E0E4736-", kSpan, "-01"),
      absl::StrCat("00-", kTrace, "-00F067AA0BA902B7-01"),
      absl::StrCat("00_", kTrace, "-", kSpan, "-01"),
      absl::StrCat("00-", kTrace, "_", kSpan, "-01"),
      absl::StrCat("00-", kTrace, "-", kSpan, "_01"),
      absl::StrCat("00-", kTrace, "0-", kSpan, "-1"),
      std::string(4096, '0'),
      std::string(55, '\0'),
  };
  for (size_t i = 0; i < 55; ++i) {  // no byte of it may be anything
    bad.push_back(Parent("00", "01"));
    bad.back()[i] = '\xff';
    bad.push_back(Parent("00", "01").substr(0, i));
  }
  for (const std::string& text : bad) {
    EXPECT_FALSE(Read(text, {"a=b"}).valid()) << text;
    EXPECT_EQ(Read(text, {"a=b"}).state, "") << text;
  }
  const std::string good = Parent("00", "01");
  EXPECT_FALSE(ReadTraceContext({}, {}).valid());
  EXPECT_FALSE(ReadTraceContext({good, good}, {}).valid());  // which of them?
}

TEST(Tracestate, IsPassedOnAsItCame) {
  const std::string parent = Parent("00", "01");
  EXPECT_EQ(Read(parent, {"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"}).state,
            "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
  EXPECT_EQ(Read(parent, {"a=1", "b=2, c=3 ,,\t", "tenant@system=x y"}).state,
            "a=1,b=2,c=3,tenant@system=x y");
  EXPECT_EQ(Read(parent, {""}).state, "");
}

TEST(Tracestate, WhatIsNotSoundIsLeftOutAlone) {
  std::string many = "k0=v";
  for (int i = 1; i < 33; ++i) absl::StrAppend(&many, ",k", i, "=v");
  for (const std::string& bad :
       {std::string("a"), std::string("=1"), std::string("a="), std::string("A=1"),
        std::string("a=1=2"), std::string("a=\x01"), std::string("a b=1"),
        std::string("a=\xc3\xa9"), absl::StrCat("a=", std::string(257, 'x')),
        absl::StrCat(std::string(257, 'k'), "=1"), many}) {
    const TraceContext context = Read(Parent("00", "01"), {"good=1", bad});
    EXPECT_TRUE(context.valid()) << bad;
    EXPECT_EQ(context.state, "") << bad;
  }
}

TEST(Tracestate, TooLongAListLosesLongMembersThenItsEnd) {
  const std::string hundred(97, 'x'), longer(140, 'y');
  const std::string list = absl::StrCat("a=", hundred, ",b=", longer, ",c=", hundred, ",d=", longer,
                                        ",e=", hundred, ",f=", hundred, ",g=", hundred);
  const std::string state = Read(Parent("00", "01"), {list}).state;
  EXPECT_EQ(state, absl::StrCat("a=", hundred, ",c=", hundred, ",e=", hundred, ",f=", hundred,
                                ",g=", hundred));
  EXPECT_LE(state.size(), 512u);
  std::string short_ones;
  for (int i = 0; i < 6; ++i) absl::StrAppend(&short_ones, i > 0 ? "," : "", i, "=", hundred);
  EXPECT_THAT(Read(Parent("00", "01"), {short_ones}).state, SizeIs(5 * 99 + 4));
}

TEST(SampledByRatio, KeepsTheShareByTheLast56Bits) {
  TraceId id = {};
  EXPECT_FALSE(SampledByRatio(id, 0));
  EXPECT_TRUE(SampledByRatio(id, 1));
  id.fill(0xff);
  EXPECT_FALSE(SampledByRatio(id, 0));
  EXPECT_TRUE(SampledByRatio(id, 1e-6));
  id = {};
  id[9] = 0x80;  // a half of all are below
  EXPECT_TRUE(SampledByRatio(id, 0.5));
  EXPECT_FALSE(SampledByRatio(id, 0.49));
  id[9] = 0x7f;
  id[8] = 0xff;  // not one of the 56
  EXPECT_FALSE(SampledByRatio(id, 0.5));
}

// A request of 100 ms: 5 to read, 10 in the queue, 20 and 50 to compute.
RequestRecord SomeRecord() {
  RequestRecord record;
  record.request_id = "id-7";
  record.method = "POST /v1/chat/completions";
  record.peer = "ipv4:127.0.0.1:4242";
  record.http_status = 200;
  record.operation = "chat";
  record.arrival.time = absl::FromUnixMillis(1'700'000'000'000);
  record.submitted = record.arrival.steady + std::chrono::milliseconds(5);
  record.answer.finish = FinishReason::kStop;
  record.answer.prompt_tokens = 30;
  record.answer.cached_prompt_tokens = 16;
  record.answer.completion_tokens = 11;
  record.answer.timing.queue = absl::Milliseconds(10);
  record.answer.timing.prefill = absl::Milliseconds(20);
  record.answer.timing.time_to_first_token = absl::Milliseconds(30);
  record.answer.timing.decode = absl::Milliseconds(50);
  record.answer.timing.pregate = absl::Milliseconds(1);
  record.answer.timing.expert_stall = absl::Milliseconds(2);
  record.answer.timing.distinct_experts = 5;
  record.answer.end_to_end = absl::Milliseconds(95);
  record.answers = 2;
  record.finish = "stop";
  record.finishes = {"length", "stop"};
  return record;
}

SpanPlace SomePlace() {
  SpanPlace place;
  place.trace_id.fill(1);
  place.parent_id.fill(2);
  place.trace_flags = kSampledFlag;
  for (uint8_t i = 0; i < kMaxSpansOfRequest; ++i) place.span_ids.push_back({{10, i}});
  return place;
}

std::vector<Span> Spans(const RequestRecord& record) {
  return SpansOf(record, "smol", SomePlace(), record.arrival.time + absl::Milliseconds(100));
}

std::map<std::string, AttributeValue> AttributesOf(const Span& span) {
  return {span.attributes.begin(), span.attributes.end()};
}

TEST(RequestSpans, TheRequestAndItsPhases) {
  const RequestRecord record = SomeRecord();
  const std::vector<Span> spans = Spans(record);
  ASSERT_THAT(spans, SizeIs(4));
  EXPECT_EQ(spans[0].name, "chat smol");
  EXPECT_EQ(spans[0].kind, SpanKind::kServer);
  EXPECT_EQ(spans[0].parent_id, SomePlace().parent_id);
  EXPECT_EQ(spans[0].status, SpanStatus::kUnset);
  const struct {
    const char* name;
    int start, end;  // milliseconds
  } times[] = {{"chat smol", 0, 100}, {"queue", 5, 15}, {"prefill", 15, 35}, {"decode", 35, 85}};
  for (size_t i = 0; i < spans.size(); ++i) {
    EXPECT_EQ(spans[i].name, times[i].name);
    EXPECT_EQ(spans[i].start - record.arrival.time, absl::Milliseconds(times[i].start)) << i;
    EXPECT_EQ(spans[i].end - record.arrival.time, absl::Milliseconds(times[i].end)) << i;
    EXPECT_EQ(spans[i].trace_id, SomePlace().trace_id);
    EXPECT_EQ(spans[i].span_id, SomePlace().span_ids[i]);
    if (i == 0) continue;
    EXPECT_EQ(spans[i].parent_id, spans[0].span_id);
    EXPECT_EQ(spans[i].kind, SpanKind::kInternal);
  }
}

TEST(RequestSpans, SayWhatTheConventionsAskFor) {
  auto attributes = AttributesOf(Spans(SomeRecord())[0]);
  EXPECT_EQ(attributes["gen_ai.operation.name"], AttributeValue("chat"));
  EXPECT_EQ(attributes["gen_ai.request.model"], AttributeValue("smol"));
  EXPECT_EQ(attributes["gen_ai.request.id"], AttributeValue("id-7"));
  EXPECT_EQ(attributes["gen_ai.usage.input_tokens"], AttributeValue(int64_t{30}));
  EXPECT_EQ(attributes["gen_ai.usage.cache_read.input_tokens"], AttributeValue(int64_t{16}));
  EXPECT_EQ(attributes["gen_ai.usage.output_tokens"], AttributeValue(int64_t{11}));
  EXPECT_EQ(attributes["gen_ai.request.choice.count"], AttributeValue(int64_t{2}));
  EXPECT_EQ(attributes["gen_ai.response.finish_reasons"],
            AttributeValue(std::vector<std::string>{"length", "stop"}));
  EXPECT_EQ(attributes["gen_ai.latency.time_to_first_token"], AttributeValue(0.03));
  EXPECT_EQ(attributes["gen_ai.latency.time_in_queue"], AttributeValue(0.01));
  EXPECT_EQ(attributes["pregate.latency.pregate"], AttributeValue(0.001));
  EXPECT_EQ(attributes["pregate.latency.expert_stall"], AttributeValue(0.002));
  EXPECT_EQ(attributes["http.request.method"], AttributeValue("POST"));
  EXPECT_EQ(attributes["url.path"], AttributeValue("/v1/chat/completions"));
  EXPECT_EQ(attributes.count("error.type"), 0u);
}

TEST(RequestSpans, PhasesThatDidNotHappenHaveNone) {
  RequestRecord record = SomeRecord();
  record.answer.timing.prefill = absl::ZeroDuration();
  record.answer.timing.decode = absl::ZeroDuration();
  EXPECT_THAT(Spans(record), SizeIs(2));
  record.operation = "";  // it was refused
  EXPECT_THAT(Spans(record), SizeIs(1));
}

TEST(RequestSpans, StayWithinTheirRequest) {
  RequestRecord record = SomeRecord();
  record.answer.timing.decode = absl::Hours(1);
  const std::vector<Span> spans = Spans(record);
  for (const Span& span : spans) {
    EXPECT_LE(spans[0].start, span.start);
    EXPECT_LE(span.start, span.end);
    EXPECT_LE(span.end, spans[0].end);
  }
}

TEST(RequestSpans, RefusedOnesAreNamedByTheirMethod) {
  RequestRecord record;
  record.method = absl::StrCat("POST /v2/models/", std::string(1 << 20, 'm'), "/infer");
  record.status = absl::NotFoundError("model: unknown");
  record.http_status = 404;
  Span span = Spans(record)[0];
  EXPECT_EQ(span.name, "POST");
  EXPECT_EQ(AttributesOf(span)["error.type"], AttributeValue("NOT_FOUND"));
  EXPECT_THAT(std::get<std::string>(AttributesOf(span)["url.path"]), SizeIs(256));
  EXPECT_EQ(span.status, SpanStatus::kUnset);  // the client's fault
  record.http_status = 0;
  record.method = "Generate";
  record.status = absl::InternalError("engine: broken");
  span = Spans(record)[0];
  EXPECT_EQ(span.name, "Generate");
  EXPECT_EQ(span.status, SpanStatus::kError);
  EXPECT_EQ(span.message, "engine: broken");
  EXPECT_EQ(AttributesOf(span)["rpc.method"], AttributeValue("Generate"));
}

TEST(OtlpJson, IsWrittenAsTheProtocolSays) {
  RequestRecord record = SomeRecord();
  record.trace = Read(Parent("00", "01"), {"a=1"});
  record.peer = "\xff\"";
  record.status = absl::InternalError("why");
  record.http_status = 500;
  const Attributes resource = {{"service.name", "pregate"}, {"n", int64_t{1} << 60}};
  const auto json = nlohmann::json::parse(ExportRequestJson(resource, Spans(record)));
  const auto& of = json["resourceSpans"][0];
  EXPECT_EQ(of["resource"]["attributes"][0],
            nlohmann::json::parse(R"({"key":"service.name","value":{"stringValue":"pregate"}})"));
  EXPECT_EQ(of["resource"]["attributes"][1]["value"]["intValue"], "1152921504606846976");
  EXPECT_EQ(of["scopeSpans"][0]["scope"]["name"], "pregate");
  const auto& spans = of["scopeSpans"][0]["spans"];
  ASSERT_EQ(spans.size(), 4u);
  EXPECT_EQ(spans[0]["traceId"], "01010101010101010101010101010101");
  EXPECT_EQ(spans[0]["parentSpanId"], "0202020202020202");
  EXPECT_EQ(spans[0]["traceState"], "a=1");
  EXPECT_EQ(spans[0]["kind"], 2);
  EXPECT_EQ(spans[0]["flags"], 0x301);  // sampled; its parent is another process's
  EXPECT_EQ(spans[0]["startTimeUnixNano"], "1700000000000000000");
  EXPECT_EQ(spans[0]["endTimeUnixNano"], "1700000000100000000");
  EXPECT_EQ(spans[0]["status"]["code"], 2);
  EXPECT_EQ(spans[0]["status"]["message"], "why");
  EXPECT_EQ(spans[1]["kind"], 1);
  EXPECT_EQ(spans[1]["flags"], 0x101);
  EXPECT_EQ(spans[1]["parentSpanId"], spans[0]["spanId"]);
  EXPECT_EQ(spans[1].count("status"), 0u);
  EXPECT_THAT(spans[0].dump(), HasSubstr("\xef\xbf\xbd\\\""));  // what is no UTF-8 is replaced
  EXPECT_THAT(
      spans[0].dump(),
      HasSubstr(R"({"arrayValue":{"values":[{"stringValue":"length"},{"stringValue":"stop"}]}})"));
}

TEST(OtlpJson, AnswersOfCollectorsAreRead) {
  EXPECT_EQ(OutcomeOf(200), ExportOutcome::kTaken);
  EXPECT_EQ(OutcomeOf(202), ExportOutcome::kTaken);
  for (const int status : {429, 502, 503, 504}) {
    EXPECT_EQ(OutcomeOf(status), ExportOutcome::kRetry);
  }
  for (const int status : {301, 400, 401, 404, 413, 500, 501}) {
    EXPECT_EQ(OutcomeOf(status), ExportOutcome::kRefused);
  }
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}})", 9), 3);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":3}})", 9), 3);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":"30"}})", 9), 9);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":-1}})", 9), 0);
  for (const char* none : {"", "{}", "[]", "{\"partialSuccess\":1}", "{\"partialSuccess\":{}}",
                           R"({"partialSuccess":{"rejectedSpans":"x"}})",
                           R"({"partialSuccess":{"rejectedSpans":{}}})", "\xff"}) {
    EXPECT_EQ(RejectedSpans(none, 9), 0) << none;
  }
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);  // 22:13:20 of that day
  EXPECT_EQ(RetryAfter("7", now), absl::Seconds(7));
  EXPECT_EQ(RetryAfter("Tue, 14 Nov 2023 22:13:30 GMT", now), absl::Seconds(10));
  EXPECT_EQ(RetryAfter("Tue, 14 Nov 2023 22:13:10 GMT", now), absl::ZeroDuration());
  for (const char* none : {"", "-1", "soon", "1.5"}) {
    EXPECT_EQ(RetryAfter(none, now), std::nullopt) << none;
  }
}

TEST(CollectorUrl, HasAHostAndDefaults) {
  const struct {
    const char* text;
    const char* authority;
    const char* path;
  } cases[] = {
      {"http://collector", "collector:4318", "/v1/traces"},
      {"http://collector:80/", "collector:80", "/v1/traces"},
      {"http://127.0.0.1:1/otlp/v1/traces", "127.0.0.1:1", "/otlp/v1/traces"},
      {"http://[::1]:4318/v1/traces", "[::1]:4318", "/v1/traces"},
      {"http://[::1]", "[::1]:4318", "/v1/traces"},
  };
  for (const auto& [text, authority, path] : cases) {
    const auto url = ReadCollectorUrl(text);
    ASSERT_TRUE(url.ok()) << url.status();
    EXPECT_EQ(url->authority(), authority);
    EXPECT_EQ(url->path, path);
  }
  for (const char* bad :
       {"", "collector:4318", "https://collector", "http://", "http://:80", "http://a:0",
        "http://a:65536", "http://a:b", "http://a:", "http://a:1:2", "http://[::1", "http://[::1]x",
        "http://user@a", "http://a/?q", "http://a/#f", "http://a b", "http://a/\r\nx: y"}) {
    EXPECT_THAT(std::string(ReadCollectorUrl(bad).status().message()),
                HasSubstr("otlp-traces-endpoint: must be http://HOST[:PORT][/PATH]"))
        << bad;
  }
}

TEST(Resource, TheEnvironmentHasTheLastWord) {
  std::map<std::string, std::string> environment;
  const auto get = [&environment](const std::string& name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    return found == environment.end() ? std::nullopt : std::optional(found->second);
  };
  const auto read = [&get] {
    const Attributes resource = ResourceOf(get);
    return std::map<std::string, AttributeValue>(resource.begin(), resource.end());
  };
  EXPECT_EQ(read()["service.name"], AttributeValue("pregate"));
  EXPECT_EQ(read().count("host.name"), 1u);
  environment["OTEL_RESOURCE_ATTRIBUTES"] = "service.name=a, k8s.pod.name = p%2C1 ,=x,,odd%zz=%4";
  EXPECT_EQ(read()["service.name"], AttributeValue("a"));
  EXPECT_EQ(read()["k8s.pod.name"], AttributeValue("p,1"));
  EXPECT_EQ(read()["odd%zz"], AttributeValue("%4"));
  environment["OTEL_SERVICE_NAME"] = "b";
  EXPECT_EQ(read()["service.name"], AttributeValue("b"));
}

}  // namespace
}  // namespace pregate
