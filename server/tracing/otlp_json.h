// OTLP: spans as the OpenTelemetry protocol writes them in JSON, and what a collector answers.
#ifndef PREGATE_SERVER_TRACING_OTLP_JSON_H_
#define PREGATE_SERVER_TRACING_OTLP_JSON_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/tracing/span.h"

namespace pregate {

// An ExportTraceServiceRequest: ids in hex, 64-bit numbers as strings, names in lowerCamelCase.
// What is not UTF-8 in strings is replaced.
std::string ExportRequestJson(const Attributes& resource, absl::Span<const Span> spans);

// Of an ExportTraceServiceResponse: how many of `sent` spans the collector did not take.
int64_t RejectedSpans(const std::string& body, int64_t sent);

// What to do about a response (OTLP/HTTP, "Failures").
enum class ExportOutcome : uint8_t { kTaken, kRetry, kRefused };
ExportOutcome OutcomeOf(int http_status);

// From now to what a Retry-After header says, seconds or a date; nothing when it says neither.
std::optional<absl::Duration> RetryAfter(absl::string_view header, absl::Time now);

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_OTLP_JSON_H_
