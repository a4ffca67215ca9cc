// SpanExporter: sends spans to a collector, from a thread of its own.
#ifndef PREGATE_SERVER_TRACING_SPAN_EXPORTER_H_
#define PREGATE_SERVER_TRACING_SPAN_EXPORTER_H_

#include <deque>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/metrics/metrics.h"
#include "server/tracing/collector_url.h"
#include "server/tracing/host_lookup.h"
#include "server/tracing/json_post.h"
#include "server/tracing/span.h"

namespace pregate {

struct SpanExporterOptions {
  CollectorUrl collector;
  Attributes resource;

  size_t max_queued_spans = 2048;
  size_t max_batch_spans = 512;
  absl::Duration interval = absl::Seconds(2);       // between batches that are not full
  absl::Duration post_timeout = absl::Seconds(10);  // of one try
  int tries = 5;                                    // of one batch
  absl::Duration first_backoff = absl::Seconds(1);  // doubles with each failure that follows
  absl::Duration longest_backoff = absl::Seconds(30);
  absl::Duration longest_retry_after =
      absl::Minutes(5);                          // a collector that asks for more waits less
  absl::Duration flush_time = absl::Seconds(2);  // for what waits when this ends
};

// OTLP over HTTP, in JSON: spans go out in batches, one at a time. What a collector cannot take now
// (429, 502, 503, 504, no answer) is tried again, later each time or when it says; what it refuses
// is dropped, as is what stays without success. A queue that is full takes nothing more: neither a
// request nor the engine ever waits for a collector. Dropped and exported spans are counted.
class SpanExporter {
 public:
  // `metrics` must outlive this. `note` is told on this thread when the collector begins to fail,
  // and when it has recovered; may be null.
  SpanExporter(SpanExporterOptions options, Metrics* metrics,
               std::function<void(const std::string&)> note);
  ~SpanExporter();  // tries to send what waits within `flush_time`, and drops the rest
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  // Queues all of them or none. Thread-safe, never blocks.
  void Add(std::vector<Span> spans);

 private:
  void Run();
  bool WantsToSend() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Span> NextBatch();  // waits for it; empty: this ends
  void Send(const std::vector<Span>& batch);
  // Nothing: it is done, well or not. Else how long to wait before the next try.
  std::optional<absl::Duration> Try(const std::string& body, int64_t spans);
  void CountFailure(const std::string& why);
  absl::Duration Backoff();
  void Note(const std::string& text) const;
  // Of a try that has begun at `start`.
  absl::Time DeadlineOfTry(absl::Time start);
  bool Stopping();
  void Sleep(absl::Duration wait);  // until this ends, at most

  const SpanExporterOptions options_;
  Metrics* const metrics_;
  const std::function<void(const std::string&)> note_;

  absl::Mutex mutex_;
  std::deque<Span> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time stop_deadline_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();

  // The thread's own.
  HostLookup lookup_;
  int failures_ = 0;  // since the last success
  std::minstd_rand random_{std::random_device{}()};
  std::thread thread_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_SPAN_EXPORTER_H_
