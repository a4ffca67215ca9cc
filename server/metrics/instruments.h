// What is counted while serving. Observing is a handful of relaxed atomic additions: no lock is
// shared with whoever reads the page.
#ifndef PREGATE_SERVER_METRICS_INSTRUMENTS_H_
#define PREGATE_SERVER_METRICS_INSTRUMENTS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/metrics/bucket_edges.h"

namespace pregate {

class EventCounter {
 public:
  void Add(int64_t count) { value_.fetch_add(count, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// Counts values by the first of its edges that is at least as large; beyond the last edge they
// share one more bucket.
class BucketCounter {
 public:
  // `edges` ascend and must outlive this.
  explicit BucketCounter(absl::Span<const double> edges)
      : edges_(edges), counts_(edges.size() + 1) {}

  void Observe(double value) {
    const auto edge = std::lower_bound(edges_.begin(), edges_.end(), value);
    counts_[edge - edges_.begin()].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }

  absl::Span<const double> edges() const { return edges_; }
  // Of bucket `i` alone, [0, edges().size()].
  uint64_t count(size_t i) const { return counts_[i].load(std::memory_order_relaxed); }
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  const absl::Span<const double> edges_;
  std::vector<std::atomic<uint64_t>> counts_;
  std::atomic<double> sum_{0.0};
};

// The values of each label, in the order of the arrays below.
inline constexpr std::array kFinishLabels = {"stop",     "length", "abort",
                                             "deadline", "error",  "drain"};
inline constexpr std::array kRejectionLabels = {"invalid",   "queue_full",    "draining",
                                                "not_found", "unimplemented", "unauthenticated"};
inline constexpr std::array kListenerLabels = {"grpc", "http"};
inline constexpr std::array kWatchedFilesLabels = {"tokens", "certificates"};
inline constexpr std::array kSpanDropLabels = {"queue", "collector"};
inline constexpr std::array kPhaseLabels = {"pregate", "plan", "execute", "sample", "commit"};
inline constexpr std::array kCauseLabels = {"known", "guessed", "demand"};
inline constexpr std::array kShadowLabels = {"random", "lru", "lfu", "static", "belady_offline"};

// Experts that have a series of their own.
inline constexpr int32_t kMaxExpertLabels = 64;

struct Instruments {
  BucketCounter time_to_first_token{FirstTokenEdges()};
  BucketCounter inter_token_latency{TokenGapEdges()};
  BucketCounter time_per_output_token{TokenGapEdges()};
  BucketCounter end_to_end{LatencyEdges()};
  BucketCounter queue_time{LatencyEdges()};
  BucketCounter prefill_time{LatencyEdges()};
  BucketCounter decode_time{LatencyEdges()};
  BucketCounter prompt_length{LengthEdges()};
  BucketCounter answer_length{LengthEdges()};

  EventCounter prompt_tokens;
  EventCounter generation_tokens;
  std::array<EventCounter, kFinishLabels.size()> finished;
  std::array<EventCounter, kRejectionLabels.size()> rejected;
  std::atomic<bool> overloaded = false;
  std::array<EventCounter, kListenerLabels.size()> failed_handshakes;
  std::atomic<int64_t> certificate_expiry = 0;  // seconds since 1970; 0: there is no TLS
  std::array<std::atomic<int>, kWatchedFilesLabels.size()> files_in_force = {-1, -1};  // -1: none

  std::atomic<bool> traced = false;  // there is a collector for spans
  EventCounter spans_exported;
  std::array<EventCounter, kSpanDropLabels.size()> spans_dropped;

  std::array<BucketCounter, kPhaseLabels.size()> step_seconds = {
      BucketCounter(PhaseEdges()), BucketCounter(PhaseEdges()), BucketCounter(PhaseEdges()),
      BucketCounter(PhaseEdges()), BucketCounter(PhaseEdges())};
  BucketCounter step_rows{StepEdges()};
  BucketCounter step_tokens{StepEdges()};

  // Of models with a pre-gating router.
  BucketCounter distinct_experts{ExpertEdges()};
  std::array<EventCounter, kMaxExpertLabels> expert_rows;
  EventCounter expert_stall_nanoseconds;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_METRICS_INSTRUMENTS_H_
