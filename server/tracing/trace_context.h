// TraceContext: which trace a request belongs to, as W3C's Trace Context (Level 2) carries it.
#ifndef PREGATE_SERVER_TRACING_TRACE_CONTEXT_H_
#define PREGATE_SERVER_TRACING_TRACE_CONTEXT_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pregate {

using TraceId = std::array<uint8_t, 16>;
using SpanId = std::array<uint8_t, 8>;

inline constexpr char kTraceparentHeader[] = "traceparent";
inline constexpr char kTracestateHeader[] = "tracestate";

// Bits of the trace flags.
inline constexpr uint8_t kSampledFlag = 0x01;
inline constexpr uint8_t kRandomFlag = 0x02;  // of the trace's id, the last 56 bits are random

struct TraceContext {
  TraceId trace_id = {};
  SpanId span_id = {};  // of the caller's span
  uint8_t flags = 0;    // those that are known
  std::string state;    // what vendors say to each other, passed on as it came

  // False: the caller sent none, or one that must be ignored.
  bool valid() const { return trace_id != TraceId{}; }
  bool sampled() const { return (flags & kSampledFlag) != 0; }
};

// Of the values of both headers, in their order. Anything but one sound `traceparent` gives a
// context that is not valid; a `tracestate` that is not sound, or too long, is left out alone.
TraceContext ReadTraceContext(absl::Span<const absl::string_view> traceparents,
                              absl::Span<const absl::string_view> tracestates);

// The bytes of an id in lower-case hex.
template <size_t kBytes>
std::string HexOf(const std::array<uint8_t, kBytes>& id) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const uint8_t byte : id) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_TRACE_CONTEXT_H_
