#include "server/tracing/otlp_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

using nlohmann::ordered_json;

// Bits of Span.flags beside those of W3C (trace.proto, SpanFlags).
constexpr uint32_t kKnowsIfRemoteFlag = 0x100;
constexpr uint32_t kRemoteFlag = 0x200;

ordered_json AnyValue(const std::string& value) { return {{"stringValue", value}}; }
ordered_json AnyValue(int64_t value) { return {{"intValue", absl::StrCat(value)}}; }
ordered_json AnyValue(double value) { return {{"doubleValue", value}}; }
ordered_json AnyValue(const std::vector<std::string>& values) {
  ordered_json list = ordered_json::array();
  for (const std::string& value : values) list.push_back(AnyValue(value));
  return {{"arrayValue", {{"values", std::move(list)}}}};
}

ordered_json KeyValues(const Attributes& attributes) {
  ordered_json list = ordered_json::array();
  for (const auto& [key, value] : attributes) {
    ordered_json any = std::visit([](const auto& held) { return AnyValue(held); }, value);
    list.push_back({{"key", key}, {"value", std::move(any)}});
  }
  return list;
}

ordered_json SpanJson(const Span& span) {
  const uint32_t flags =
      span.trace_flags | kKnowsIfRemoteFlag | (span.parent_is_remote ? kRemoteFlag : 0);
  ordered_json json = {{"traceId", HexOf(span.trace_id)}, {"spanId", HexOf(span.span_id)}};
  if (!span.state.empty()) json["traceState"] = span.state;
  if (span.parent_id != SpanId{}) json["parentSpanId"] = HexOf(span.parent_id);
  json["flags"] = flags;
  json["name"] = span.name;
  json["kind"] = static_cast<int>(span.kind);
  json["startTimeUnixNano"] = absl::StrCat(absl::ToUnixNanos(span.start));
  json["endTimeUnixNano"] = absl::StrCat(absl::ToUnixNanos(span.end));
  json["attributes"] = KeyValues(span.attributes);
  if (span.status != SpanStatus::kUnset) {
    json["status"] = {{"code", static_cast<int>(span.status)}, {"message", span.message}};
  }
  return json;
}

}  // namespace

std::string ExportRequestJson(const Attributes& resource, absl::Span<const Span> spans) {
  ordered_json list = ordered_json::array();
  for (const Span& span : spans) list.push_back(SpanJson(span));
  ordered_json scope_spans = {
      {"scope", {{"name", "pregate"}, {"version", PREGATE_VERSION}}},
      {"spans", std::move(list)},
  };
  ordered_json resource_spans = {
      {"resource", {{"attributes", KeyValues(resource)}}},
      {"scopeSpans", ordered_json::array({std::move(scope_spans)})},
  };
  const ordered_json request = {
      {"resourceSpans", ordered_json::array({std::move(resource_spans)})}};
  return request.dump(-1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace);
}

int64_t RejectedSpans(const std::string& body, int64_t sent) {
  const ordered_json json = ordered_json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("partialSuccess")) return 0;
  const ordered_json& partial = json["partialSuccess"];
  if (!partial.is_object() || !partial.contains("rejectedSpans")) return 0;
  const ordered_json& rejected = partial["rejectedSpans"];
  int64_t count = 0;
  if (rejected.is_number_integer()) {
    count = rejected.get<int64_t>();
  } else if (!rejected.is_string() ||
             !absl::SimpleAtoi(rejected.get_ref<const std::string&>(), &count)) {
    return 0;
  }
  return std::clamp<int64_t>(count, 0, sent);
}

ExportOutcome OutcomeOf(int http_status) {
  if (http_status >= 200 && http_status < 300) return ExportOutcome::kTaken;
  switch (http_status) {
    case 429:
    case 502:
    case 503:
    case 504:
      return ExportOutcome::kRetry;
    default:
      return ExportOutcome::kRefused;
  }
}

std::optional<absl::Duration> RetryAfter(absl::string_view header, absl::Time now) {
  int64_t seconds = 0;
  if (absl::SimpleAtoi(header, &seconds) && seconds >= 0) return absl::Seconds(seconds);
  absl::Time date;
  if (!absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", header, &date, nullptr)) return std::nullopt;
  return std::max(date - now, absl::ZeroDuration());
}

}  // namespace pregate
