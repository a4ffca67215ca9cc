#include "server/tracing/span_exporter.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/tracing/otlp_json.h"

namespace pregate {

SpanExporter::SpanExporter(SpanExporterOptions options, Metrics* metrics,
                           std::function<void(const std::string&)> note)
    : options_(std::move(options)), metrics_(metrics), note_(std::move(note)) {
  metrics_->ShowSpans();
  thread_ = std::thread([this] { Run(); });
}

SpanExporter::~SpanExporter() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    stop_deadline_ = absl::Now() + options_.flush_time;
  }
  thread_.join();
}

void SpanExporter::Add(std::vector<Span> spans) {
  {
    absl::MutexLock lock(&mutex_);
    if (queue_.size() + spans.size() <= options_.max_queued_spans) {
      queue_.insert(queue_.end(), std::make_move_iterator(spans.begin()),
                    std::make_move_iterator(spans.end()));
      return;
    }
  }
  metrics_->CountDroppedSpans(SpanDrop::kQueue, static_cast<int64_t>(spans.size()));
}

void SpanExporter::Run() {
  for (std::vector<Span> batch = NextBatch(); !batch.empty(); batch = NextBatch()) Send(batch);
}

bool SpanExporter::WantsToSend() const {
  return stopping_ || queue_.size() >= options_.max_batch_spans;
}

std::vector<Span> SpanExporter::NextBatch() {
  absl::MutexLock lock(&mutex_);
  do {
    mutex_.AwaitWithTimeout(absl::Condition(this, &SpanExporter::WantsToSend), options_.interval);
  } while (queue_.empty() && !stopping_);
  const auto end =
      queue_.begin() + static_cast<int64_t>(std::min(queue_.size(), options_.max_batch_spans));
  std::vector<Span> batch(std::make_move_iterator(queue_.begin()), std::make_move_iterator(end));
  queue_.erase(queue_.begin(), end);
  return batch;
}

void SpanExporter::Send(const std::vector<Span>& batch) {
  const std::string body = ExportRequestJson(options_.resource, batch);
  const int64_t spans = static_cast<int64_t>(batch.size());
  for (int i = 0; i < options_.tries; ++i) {
    const bool last = Stopping();
    const std::optional<absl::Duration> wait = Try(body, spans);
    if (!wait.has_value()) return;
    if (last) break;
    if (i + 1 < options_.tries) Sleep(*wait);
  }
  metrics_->CountDroppedSpans(SpanDrop::kCollector, spans);
}

std::optional<absl::Duration> SpanExporter::Try(const std::string& body, int64_t spans) {
  const absl::Time start = absl::Now();
  const absl::StatusOr<PostReply> reply =
      PostJson(options_.collector, body, &lookup_, [this, start] { return DeadlineOfTry(start); });
  if (!reply.ok()) {
    CountFailure(std::string(reply.status().message()));
    return Backoff();
  }
  const std::string answer = absl::StrCat("it answers ", reply->http_status);
  switch (OutcomeOf(reply->http_status)) {
    case ExportOutcome::kRetry: {
      CountFailure(answer);
      const auto asked = RetryAfter(reply->retry_after, absl::Now());
      const absl::Duration wait = asked.value_or(absl::ZeroDuration());
      return std::max(Backoff(), std::min(wait, options_.longest_retry_after));
    }
    case ExportOutcome::kRefused:
      CountFailure(answer);
      metrics_->CountDroppedSpans(SpanDrop::kCollector, spans);
      break;
    case ExportOutcome::kTaken: {
      if (std::exchange(failures_, 0) > 0) Note("the collector takes spans again");
      const int64_t rejected = RejectedSpans(reply->body, spans);
      metrics_->CountExportedSpans(spans - rejected);
      metrics_->CountDroppedSpans(SpanDrop::kCollector, rejected);
      break;
    }
  }
  return std::nullopt;
}

void SpanExporter::CountFailure(const std::string& why) {
  if (failures_++ > 0) return;
  Note(absl::StrCat("the collector at ", options_.collector.authority(),
                    " does not take spans: ", why));
}

absl::Duration SpanExporter::Backoff() {
  absl::Duration wait = options_.first_backoff;
  for (int i = 1; i < failures_ && wait < options_.longest_backoff; ++i) wait *= 2;
  // Between half of it and all of it: servers that have failed together come back apart.
  const double share = std::uniform_real_distribution<double>(0.5, 1)(random_);
  return std::min(wait, options_.longest_backoff) * share;
}

void SpanExporter::Note(const std::string& text) const {
  if (note_ != nullptr) note_(absl::StrCat("tracing: ", text));
}

absl::Time SpanExporter::DeadlineOfTry(absl::Time start) {
  absl::MutexLock lock(&mutex_);
  return std::min(start + options_.post_timeout, stop_deadline_);
}

bool SpanExporter::Stopping() {
  absl::MutexLock lock(&mutex_);
  return stopping_;
}

void SpanExporter::Sleep(absl::Duration wait) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&stopping_), wait);
}

}  // namespace pregate
