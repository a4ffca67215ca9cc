// Span: a stretch of time of a trace, as plain data.
#ifndef PREGATE_SERVER_TRACING_SPAN_H_
#define PREGATE_SERVER_TRACING_SPAN_H_

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "server/tracing/trace_context.h"

namespace pregate {

using AttributeValue = std::variant<std::string, int64_t, double, std::vector<std::string>>;
using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

// The numbers of opentelemetry/proto/trace/v1/trace.proto.
enum class SpanKind : uint8_t { kInternal = 1, kServer = 2 };
enum class SpanStatus : uint8_t { kUnset = 0, kOk = 1, kError = 2 };

struct Span {
  TraceId trace_id = {};
  SpanId span_id = {};
  SpanId parent_id = {};  // zero: it has none
  std::string state;
  uint8_t trace_flags = 0;
  bool parent_is_remote = false;
  std::string name;
  SpanKind kind = SpanKind::kInternal;
  absl::Time start;
  absl::Time end;
  Attributes attributes;
  SpanStatus status = SpanStatus::kUnset;
  std::string message;  // of kError
};

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_SPAN_H_
