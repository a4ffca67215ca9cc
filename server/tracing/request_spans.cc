#include "server/tracing/request_spans.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace pregate {
namespace {

constexpr size_t kMaxValueBytes = 256;
constexpr size_t kMaxFinishes = 16;  // of a call's answers, which may be a thousand

std::string Cut(absl::string_view text) { return std::string(text.substr(0, kMaxValueBytes)); }

bool IsHttp(const RequestRecord& record) { return record.http_status != 0; }

// "POST" and "/v1/completions" of "POST /v1/completions".
std::pair<std::string, std::string> MethodAndPath(const RequestRecord& record) {
  return absl::StrSplit(record.method, absl::MaxSplits(' ', 1));
}

// Of few names, whatever clients ask for: what was refused has its path as an attribute only.
std::string NameOf(const RequestRecord& record, const std::string& model) {
  if (*record.operation != '\0') return absl::StrCat(record.operation, " ", model);
  return IsHttp(record) ? Cut(MethodAndPath(record).first) : Cut(record.method);
}

// What a server calls its own fault (the conventions for HTTP and for gRPC): clients' are not.
bool IsOurFault(const RequestRecord& record) {
  switch (record.status.code()) {
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDataLoss:
      return true;
    case absl::StatusCode::kUnimplemented:  // over HTTP: what a client asked for and is not served
      return !IsHttp(record);
    default:
      return false;
  }
}

void AppendCall(const RequestRecord& record, Attributes* to) {
  if (IsHttp(record)) {
    const auto [method, path] = MethodAndPath(record);
    to->emplace_back("http.request.method", Cut(method));
    to->emplace_back("url.path", Cut(path));
    to->emplace_back("http.response.status_code", int64_t{record.http_status});
  } else {
    to->emplace_back("rpc.system", "grpc");
    to->emplace_back("rpc.method", Cut(record.method));
    to->emplace_back("rpc.grpc.status_code", int64_t{record.status.raw_code()});
  }
  to->emplace_back("pregate.peer", Cut(record.peer));
  to->emplace_back("gen_ai.request.id", Cut(record.request_id));
  if (!record.status.ok()) {
    to->emplace_back("error.type", absl::StatusCodeToString(record.status.code()));
  }
}

void AppendAnswer(const RequestRecord& record, const std::string& model, Attributes* to) {
  const AnswerRecord& answer = record.answer;
  const RequestTiming& timing = answer.timing;
  to->emplace_back("gen_ai.operation.name", record.operation);
  to->emplace_back("gen_ai.provider.name", "pregate");
  to->emplace_back("gen_ai.request.model", model);
  to->emplace_back("gen_ai.response.model", model);
  to->emplace_back("gen_ai.request.choice.count", int64_t{record.answers});
  std::vector<std::string> finishes = record.finishes;
  finishes.resize(std::min(finishes.size(), kMaxFinishes));
  to->emplace_back("gen_ai.response.finish_reasons", std::move(finishes));
  to->emplace_back("gen_ai.usage.input_tokens", int64_t{answer.prompt_tokens});
  to->emplace_back("gen_ai.usage.cache_read.input_tokens", int64_t{answer.cached_prompt_tokens});
  to->emplace_back("gen_ai.usage.output_tokens", int64_t{answer.completion_tokens});
  const std::pair<const char*, absl::Duration> times[] = {
      {"gen_ai.latency.time_in_queue", timing.queue},
      {"gen_ai.latency.time_in_model_prefill", timing.prefill},
      {"gen_ai.latency.time_in_model_decode", timing.decode},
      {"gen_ai.latency.time_to_first_token", timing.time_to_first_token},
      {"gen_ai.latency.e2e", answer.end_to_end},
      {"pregate.latency.pregate", timing.pregate},
      {"pregate.latency.expert_stall", timing.expert_stall},
  };
  for (const auto& [name, time] : times) to->emplace_back(name, absl::ToDoubleSeconds(time));
  to->emplace_back("pregate.distinct_experts", int64_t{timing.distinct_experts});
}

// The phases of the first answer, one behind the other from its submission on.
void AppendPhases(const RequestRecord& record, const SpanPlace& place, std::vector<Span>* spans) {
  const RequestTiming& timing = record.answer.timing;
  const Span request = spans->front();
  const std::pair<const char*, absl::Duration> phases[] = {
      {"queue", timing.queue}, {"prefill", timing.prefill}, {"decode", timing.decode}};
  // The engine's thread has read the same clock a little later each time: within its request.
  absl::Time start = std::min(record.arrival.At(record.submitted), request.end);
  for (const auto& [name, length] : phases) {
    if (length <= absl::ZeroDuration()) continue;
    Span span;
    span.trace_id = request.trace_id;
    span.span_id = place.span_ids[spans->size()];
    span.parent_id = request.span_id;
    span.state = request.state;
    span.trace_flags = request.trace_flags;
    span.name = name;
    span.start = start;
    span.end = std::min(start + length, request.end);
    start = span.end;
    spans->push_back(std::move(span));
  }
}

}  // namespace

std::vector<Span> SpansOf(const RequestRecord& record, const std::string& model,
                          const SpanPlace& place, absl::Time end) {
  std::vector<Span> spans(1);
  Span& span = spans.front();
  span.trace_id = place.trace_id;
  span.span_id = place.span_ids.front();
  span.parent_id = place.parent_id;
  span.parent_is_remote = record.trace.valid();
  span.state = record.trace.state;
  span.trace_flags = place.trace_flags;
  span.name = NameOf(record, model);
  span.kind = SpanKind::kServer;
  span.start = record.arrival.time;
  span.end = std::max(span.start, end);
  AppendCall(record, &span.attributes);
  if (IsOurFault(record)) {
    span.status = SpanStatus::kError;
    span.message = Cut(record.status.message());
  }
  if (*record.operation == '\0') return spans;
  AppendAnswer(record, model, &span.attributes);
  AppendPhases(record, place, &spans);
  return spans;
}

}  // namespace pregate
