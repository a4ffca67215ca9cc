#include "server/tracing/tracer.h"

#include <unistd.h>

#include <cmath>
#include <utility>

#include "server/tracing/request_spans.h"

namespace pregate {
namespace {

constexpr int kRandomBytes = 7;  // at the end of a trace's id

// From the operating system: no other server has the same.
struct NewIds {
  TraceId trace;
  std::array<SpanId, kMaxSpansOfRequest> spans;
};

bool Draw(NewIds* ids) {
  if (getentropy(ids, sizeof(*ids)) != 0) return false;
  if (ids->trace == TraceId{}) ids->trace.back() = 1;
  for (SpanId& id : ids->spans) {
    if (id == SpanId{}) id.back() = 1;
  }
  return true;
}

}  // namespace

bool SampledByRatio(const TraceId& trace_id, double ratio) {
  uint64_t value = 0;
  for (size_t i = trace_id.size() - kRandomBytes; i < trace_id.size(); ++i) {
    value = value << 8 | trace_id[i];
  }
  const double rejected = std::round((1 - ratio) * std::ldexp(1, 8 * kRandomBytes));
  return value >= static_cast<uint64_t>(rejected);
}

std::string Tracer::Record(const RequestRecord& record) {
  const absl::Time end = record.arrival.At(std::chrono::steady_clock::now());
  const TraceContext& caller = record.trace;
  if (caller.valid() && !caller.sampled()) return HexOf(caller.trace_id);
  NewIds ids;
  if (!Draw(&ids)) return caller.valid() ? HexOf(caller.trace_id) : "";
  SpanPlace place;
  place.span_ids.assign(ids.spans.begin(), ids.spans.end());
  if (caller.valid()) {
    place.trace_id = caller.trace_id;
    place.parent_id = caller.span_id;
    place.trace_flags = caller.flags;
  } else {
    if (!SampledByRatio(ids.trace, ratio_)) return "";
    place.trace_id = ids.trace;
    place.trace_flags = kSampledFlag | kRandomFlag;
  }
  exporter_->Add(SpansOf(record, model_, place, end));
  return HexOf(place.trace_id);
}

}  // namespace pregate
