// RequestRecord: what is said of a request that has ended, in its line of the log and in its spans.
#ifndef PREGATE_SERVER_TRACING_REQUEST_RECORD_H_
#define PREGATE_SERVER_TRACING_REQUEST_RECORD_H_

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/metrics/metrics.h"
#include "server/tracing/arrival.h"
#include "server/tracing/trace_context.h"

namespace pregate {

// The strings may come from a client: any bytes, any length.
struct RequestRecord {
  std::string request_id;
  std::string method;  // "Generate"; over HTTP "POST /v1/completions"
  std::string peer;
  absl::Status status;
  int http_status = 0;  // over HTTP, what `status` is there; else 0

  TraceContext trace;  // of the caller
  Arrival arrival;     // its end is the moment when the record is written

  // Of what the engine took; else as they are here.
  const char* operation = "";  // as OpenTelemetry names it: "chat", "text_completion", ...
  AnswerRecord answer;         // tokens of all answers together, times of the first
  int answers = 0;
  std::string finish;                               // of the first answer to end
  std::vector<std::string> finishes;                // of each answer
  std::chrono::steady_clock::time_point submitted;  // to the engine: `answer.timing` begins here
};

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_REQUEST_RECORD_H_
