#include "server/log/request_log.h"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/tracing/tracer.h"

namespace pregate {
namespace {

using nlohmann::ordered_json;

constexpr size_t kMaxFieldBytes = 256;
constexpr size_t kMaxQueuedLines = 4096;

std::string Cut(const std::string& field) { return field.substr(0, kMaxFieldBytes); }

// To a microsecond: more digits than that are noise.
double Milliseconds(absl::Duration duration) {
  return std::round(absl::ToDoubleMicroseconds(duration)) / 1000;
}

std::string Now() {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
}

// What a line says, in its order.
ordered_json Fields(const RequestRecord& record, const std::string& trace_id) {
  const AnswerRecord& answer = record.answer;
  ordered_json fields = {
      {"time", Now()},
      {"method", Cut(record.method)},
      {"request_id", Cut(record.request_id)},
  };
  if (!trace_id.empty()) fields["trace_id"] = trace_id;
  fields.update({
      {"peer", Cut(record.peer)},
      {"status", absl::StatusCodeToString(record.status.code())},
      {"finish", Cut(record.finish)},
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

class RequestLog::Sink {
 public:
  Sink()
      : thread_(std::make_shared<spdlog::details::thread_pool>(kMaxQueuedLines, 1)),
        logger_(std::make_shared<spdlog::async_logger>(
            "requests", std::make_shared<spdlog::sinks::stderr_sink_mt>(), thread_,
            spdlog::async_overflow_policy::overrun_oldest)) {
    logger_->set_pattern("%v");
  }

  void Write(const std::string& line) { logger_->info(line); }

 private:
  std::shared_ptr<spdlog::details::thread_pool> thread_;  // its end writes what is queued
  std::shared_ptr<spdlog::async_logger> logger_;
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
  const ordered_json fields = Fields(record, trace_id);
  sink_->Write(format_ == LogFormat::kJson ? AsJson(fields) : AsText(fields));
}

void RequestLog::Note(const std::string& text) {
  const ordered_json fields = {{"time", Now()}, {"note", Cut(text)}};
  sink_->Write(format_ == LogFormat::kJson ? AsJson(fields) : Cut(text));
}

}  // namespace pregate
