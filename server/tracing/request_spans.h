// From a request that has ended to its spans.
#ifndef PREGATE_SERVER_TRACING_REQUEST_SPANS_H_
#define PREGATE_SERVER_TRACING_REQUEST_SPANS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/tracing/request_record.h"
#include "server/tracing/span.h"

namespace pregate {

// Where its spans stand: the trace, a new id for each of them, and the caller's span if there is
// one.
struct SpanPlace {
  TraceId trace_id = {};
  SpanId parent_id = {};
  uint8_t trace_flags = 0;
  std::vector<SpanId> span_ids;  // [kMaxSpansOfRequest]
};

inline constexpr int kMaxSpansOfRequest = 4;

// One of kind SERVER that ends at `end`, and within it "queue", "prefill" and "decode", those that
// the first answer has had. Names and attributes are those of OpenTelemetry's conventions for
// generative AI, where they have one; gen_ai.latency.* (seconds) as vLLM names them; `pregate.*` is
// what only we have. `model` is the name under which it is served. Strings are cut at 256 bytes.
std::vector<Span> SpansOf(const RequestRecord& record, const std::string& model,
                          const SpanPlace& place, absl::Time end);

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_REQUEST_SPANS_H_
