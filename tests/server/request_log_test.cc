#include "server/log/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

// What a log of `lines` leaves on standard error.
std::string Written(LogFormat format, const std::vector<RequestRecord>& lines) {
  ::testing::internal::CaptureStderr();
  {
    RequestLog log(format);
    for (const RequestRecord& line : lines) log.Write(line);
  }
  return ::testing::internal::GetCapturedStderr();
}

RequestRecord SomeLine() {
  RequestRecord line;
  line.request_id = "id-7";
  line.method = "Generate";
  line.finish = "stop";
  line.peer = "ipv4:127.0.0.1:4242";
  line.answers = 2;
  line.answer.prompt_tokens = 30;
  line.answer.cached_prompt_tokens = 16;
  line.answer.completion_tokens = 11;
  line.answer.timing.queue = absl::Microseconds(1500);
  line.answer.timing.prefill = absl::Milliseconds(16);
  line.answer.timing.time_to_first_token = absl::Microseconds(17500);
  line.answer.timing.decode = absl::Milliseconds(500);
  line.answer.timing.pregate = absl::Microseconds(250);
  line.answer.timing.expert_stall = absl::Milliseconds(2);
  line.answer.timing.distinct_experts = 5;
  line.answer.end_to_end = absl::Nanoseconds(521'123'456);
  return line;
}

// Bytes that end lines, move cursors, close strings or are no text at all.
RequestRecord HostileLine() {
  RequestRecord line = SomeLine();
  line.request_id = "a\r\nrequest time=\"forged\"\x1b[2J\x07\"}\\";
  line.peer = std::string("\0\x7f\xff\xc2\x9b", 5) + "\u2028";
  line.method = std::string(1 << 20, 'm');
  line.finish = std::string(255, 'x') + "\u00e9";
  return line;
}

TEST(RequestLog, JsonSaysWhatTheLineHolds) {
  const std::string text = Written(LogFormat::kJson, {SomeLine()});
  ASSERT_EQ(text.back(), '\n');
  const nlohmann::json json = nlohmann::json::parse(text);
  EXPECT_EQ(json["method"], "Generate");
  EXPECT_EQ(json["request_id"], "id-7");
  EXPECT_EQ(json["status"], "OK");
  EXPECT_EQ(json["finish"], "stop");
  EXPECT_EQ(json["peer"], "ipv4:127.0.0.1:4242");
  EXPECT_EQ(json["answers"], 2);
  EXPECT_EQ(json["prompt_tokens"], 30);
  EXPECT_EQ(json["cached_prompt_tokens"], 16);
  EXPECT_EQ(json["completion_tokens"], 11);
  EXPECT_EQ(json["queue_ms"], 1.5);
  EXPECT_EQ(json["prefill_ms"], 16);
  EXPECT_EQ(json["time_to_first_token_ms"], 17.5);
  EXPECT_EQ(json["decode_ms"], 500);
  EXPECT_EQ(json["pregate_ms"], 0.25);
  EXPECT_EQ(json["expert_stall_ms"], 2);
  EXPECT_EQ(json["distinct_experts"], 5);
  EXPECT_EQ(json["end_to_end_ms"], 521.123);
  EXPECT_THAT(json["time"].get<std::string>(), SizeIs(24));  // 2000-01-01T00:00:00.000Z
}

TEST(RequestLog, SaysWhichTraceOfTheCallerARequestBelongsTo) {
  RequestRecord traced = SomeLine();
  EXPECT_THAT(Written(LogFormat::kJson, {traced}), Not(HasSubstr("trace_id")));
  EXPECT_THAT(Written(LogFormat::kText, {traced}), Not(HasSubstr("trace_id")));
  traced.trace.trace_id.fill(0xa5);
  const nlohmann::json json = nlohmann::json::parse(Written(LogFormat::kJson, {traced}));
  EXPECT_EQ(json["trace_id"], "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5");
  EXPECT_THAT(
      Written(LogFormat::kText, {traced}),
      HasSubstr(" request_id=\"id-7\" trace_id=\"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\" peer="));
}

TEST(RequestLog, TextSaysTheSame) {
  const std::string text = Written(LogFormat::kText, {SomeLine()});
  EXPECT_THAT(text, StartsWith("request time=\"2"));
  EXPECT_THAT(text,
              HasSubstr(" method=\"Generate\" request_id=\"id-7\" peer=\"ipv4:127.0.0.1:4242\""
                        " status=\"OK\" finish=\"stop\" answers=2 prompt_tokens=30 "
                        "cached_prompt_tokens=16 completion_tokens=11 queue_ms=1.5 "));
  EXPECT_THAT(text, HasSubstr(" end_to_end_ms=521.123\n"));
}

TEST(RequestLog, HostileFieldsStayWithinTheirLine) {
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    const std::string text = Written(format, {HostileLine(), SomeLine()});
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
    EXPECT_LT(text.size(), 8192);
    for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
      EXPECT_THAT(line, Each(AllOf(Ge(' '), Le('~'))));  // printable ASCII alone
    }
  }
}

TEST(RequestLog, FieldsAreCutAt256Bytes) {
  const nlohmann::json json = nlohmann::json::parse(Written(LogFormat::kJson, {HostileLine()}));
  EXPECT_EQ(json["method"], std::string(256, 'm'));
  EXPECT_EQ(json["finish"], std::string(255, 'x') + "\uFFFD");  // cut within its last character
  EXPECT_EQ(json["request_id"], HostileLine().request_id);
  EXPECT_THAT(Written(LogFormat::kText, {HostileLine()}),
              AllOf(HasSubstr(absl::StrCat("method=\"", std::string(256, 'm'), "\" request_id=")),
                    HasSubstr("request_id=\"a\\r\\nrequest time=\\\"forged\\\"\\x1b[2J")));
}

TEST(RequestLog, ManyThreadsWriteWholeLines) {
  ::testing::internal::CaptureStderr();
  {
    RequestLog log(LogFormat::kJson);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&log] {
        for (int i = 0; i < 500; ++i) log.Write(SomeLine());
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const std::string text = ::testing::internal::GetCapturedStderr();
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  EXPECT_THAT(lines, SizeIs(2000));
  for (const std::string& line : lines) {
    ASSERT_EQ(nlohmann::json::parse(line)["request_id"], "id-7");
  }
}

// Standard error goes to a pipe that nobody reads, until much more than it holds has been written.
TEST(RequestLog, AReaderThatHasStoppedCostsTheOldestLines) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const int standard_error = dup(STDERR_FILENO);
  dup2(ends[1], STDERR_FILENO);
  std::string read;
  std::thread reader;
  {
    RequestLog log(LogFormat::kJson);
    const absl::Time start = absl::Now();
    for (int i = 0; i < 20000; ++i) {
      RequestRecord line;
      line.answers = i;
      log.Write(line);
    }
    EXPECT_LT(absl::Now() - start, absl::Seconds(10));
    reader = std::thread([&] {
      char buffer[4096];
      for (ssize_t n; (n = ::read(ends[0], buffer, sizeof(buffer))) > 0;) read.append(buffer, n);
    });
  }
  dup2(standard_error, STDERR_FILENO);
  close(standard_error);
  close(ends[1]);
  reader.join();
  close(ends[0]);
  EXPECT_LT(std::count(read.begin(), read.end(), '\n'), 10000);
  EXPECT_THAT(read, HasSubstr("\"answers\":19999,"));
}

}  // namespace
}  // namespace pregate
