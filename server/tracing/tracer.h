// Tracer: decides which requests are traced, and hands their spans on.
#ifndef PREGATE_SERVER_TRACING_TRACER_H_
#define PREGATE_SERVER_TRACING_TRACER_H_

#include <cstdint>
#include <string>

#include "server/tracing/request_record.h"
#include "server/tracing/span_exporter.h"

namespace pregate {

// Whether a trace that begins here is sampled, by its id: a share `ratio` in [0, 1] of those whose
// last 56 bits are random. Whoever else samples by the same bits keeps the same traces
// (OpenTelemetry's consistent probability sampling).
bool SampledByRatio(const TraceId& trace_id, double ratio);

// Thread-safe. A request whose caller traces it is sampled if the caller samples it; others begin a
// trace of their own, sampled by `ratio`.
class Tracer {
 public:
  // `exporter` must outlive this.
  Tracer(std::string model, double ratio, SpanExporter* exporter)
      : model_(std::move(model)), ratio_(ratio), exporter_(exporter) {}

  // The request has ended just now. Never blocks. Returns the trace's id: the caller's, or of the
  // one that has begun; "" when the request belongs to none.
  std::string Record(const RequestRecord& record);

 private:
  const std::string model_;
  const double ratio_;
  SpanExporter* const exporter_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_TRACER_H_
