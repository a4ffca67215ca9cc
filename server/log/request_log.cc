#include "server/log/request_log.h"

#include <cmath>
#include <cstdio>
#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/tracing/tracer.h"

namespace pregate {
namespace {

using nlohmann::ordered_json;

constexpr size_t kMaxFieldBytes = 256;
constexpr size_t kMaxQueuedLines = 4096;
// Of what ended, until it is worded: others that ended with it are told of that first.
constexpr absl::Duration kPatience = absl::Milliseconds(20);

std::string Cut(const std::string& field) { return field.substr(0, kMaxFieldBytes); }

// To a microsecond: more digits than that are noise.
double Milliseconds(absl::Duration duration) {
  return std::round(absl::ToDoubleMicroseconds(duration)) / 1000;
}

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

// What a line says of a record: no more of its strings than the line takes.
RequestRecord Cut(const RequestRecord& record) {
  RequestRecord cut;
  cut.method = Cut(record.method);
  cut.request_id = Cut(record.request_id);
  cut.peer = Cut(record.peer);
  cut.status = absl::Status(record.status.code(), "");
  cut.finish = Cut(record.finish);
  cut.answers = record.answers;
  cut.answer = record.answer;
  return cut;
}

// What a line says, in its order.
ordered_json Fields(const RequestRecord& record, const std::string& trace_id, absl::Time time) {
  const AnswerRecord& answer = record.answer;
  ordered_json fields = {
      {"time", TimeText(time)},
      {"method", record.method},
      {"request_id", record.request_id},
  };
  if (!trace_id.empty()) fields["trace_id"] = trace_id;
  fields.update({
      {"peer", record.peer},
      {"status", absl::StatusCodeToString(record.status.code())},
      {"finish", record.finish},
      {"answers", record.answers},
      {"prompt_tokens", answer.prompt_tokens},
      {"cached_prompt_tokens", answer.cached_prompt_tokens},
      {"completion_tokens", answer.completion_tokens},
      {"queue_ms", Milliseconds(answer.timing.queue)},
      {"prefill_ms", Milliseconds(answer.timing.prefill)},
      {"time_to_first_token_ms", Milliseconds(answer.timing.time_to_first_token)},
      {"decode_ms", Milliseconds(answer.timing.decode)},
      {"pregate_ms", Milliseconds(answer.timing.pregate)},
      {"expert_stall_ms", Milliseconds(answer.timing.expert_stall)},
      {"distinct_experts", answer.timing.distinct_experts},
      {"end_to_end_ms", Milliseconds(answer.end_to_end)},
  });
  return fields;
}

std::string CallersTraceId(const RequestRecord& record) {
  return record.trace.valid() ? HexOf(record.trace.trace_id) : "";
}

std::string AsJson(const ordered_json& fields) {
  return fields.dump(-1, ' ', /*ensure_ascii=*/true, ordered_json::error_handler_t::replace);
}

std::string AsText(const ordered_json& fields) {
  std::string text = "request";
  for (const auto& [name, value] : fields.items()) {
    absl::StrAppend(&text, " ", name, "=");
    if (value.is_string()) {
      absl::StrAppend(&text, "\"", absl::CHexEscape(value.get_ref<const std::string&>()), "\"");
    } else {
      absl::StrAppend(&text, value.dump());
    }
  }
  return text;
}

}  // namespace

// Words lines and writes them, on a thread of its own.
class RequestLog::Sink {
 public:
  using Line = std::function<std::string()>;

  Sink() : thread_([this] { Run(); }) {}
  ~Sink() {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    thread_.join();
  }

  void Write(Line line) {
    absl::MutexLock lock(&mutex_);
    if (lines_.size() == kMaxQueuedLines) lines_.pop_front();
    lines_.push_back(std::move(line));
  }

 private:
  void Run() {
    for (bool last = false; !last;) {
      std::deque<Line> lines;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &Sink::HasWork));
        mutex_.AwaitWithTimeout(absl::Condition(&stopping_), kPatience);
        lines.swap(lines_);
        last = stopping_;
      }
      for (const Line& line : lines) {
        const std::string text = line() + "\n";
        std::fwrite(text.data(), 1, text.size(), stderr);  // a write of its own
      }
    }
  }
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !lines_.empty();
  }

  absl::Mutex mutex_;
  std::deque<Line> lines_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: starts when everything above stands
};

RequestLog::RequestLog(LogFormat format) : format_(format), sink_(std::make_unique<Sink>()) {}

RequestLog::~RequestLog() = default;

void RequestLog::Write(const RequestRecord& record) {
  WriteLine(record, tracer_ == nullptr ? CallersTraceId(record) : tracer_->Record(record));
}

void RequestLog::WriteUntraced(const RequestRecord& record) {
  WriteLine(record, CallersTraceId(record));
}

void RequestLog::WriteLine(const RequestRecord& record, const std::string& trace_id) {
  sink_->Write([format = format_, cut = Cut(record), trace_id, time = absl::Now()] {
    const ordered_json fields = Fields(cut, trace_id, time);
    return format == LogFormat::kJson ? AsJson(fields) : AsText(fields);
  });
}

void RequestLog::Note(const std::string& text) {
  sink_->Write([format = format_, cut = Cut(text), time = absl::Now()] {
    const ordered_json fields = {{"time", TimeText(time)}, {"note", cut}};
    return format == LogFormat::kJson ? AsJson(fields) : cut;
  });
}

}  // namespace pregate
