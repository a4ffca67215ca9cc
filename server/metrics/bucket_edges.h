// Upper edges of the histograms' buckets. Where vLLM has the histogram, all its edges are here, so
// that a query written for its buckets finds them; between and below them are more, because a small
// model on a CPU answers within milliseconds.
#ifndef PREGATE_SERVER_METRICS_BUCKET_EDGES_H_
#define PREGATE_SERVER_METRICS_BUCKET_EDGES_H_

#include "absl/types/span.h"

namespace pregate {

absl::Span<const double> FirstTokenEdges();  // seconds to the first token
absl::Span<const double> TokenGapEdges();    // seconds from token to token
absl::Span<const double> LatencyEdges();     // seconds of a request's stages, and of the whole
absl::Span<const double> PhaseEdges();       // seconds of a step's phases
absl::Span<const double> LengthEdges();      // tokens of a prompt or an answer
absl::Span<const double> StepEdges();        // rows or tokens of one step
absl::Span<const double> ExpertEdges();      // experts of one step

}  // namespace pregate

#endif  // PREGATE_SERVER_METRICS_BUCKET_EDGES_H_
