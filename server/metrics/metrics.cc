#include "server/metrics/metrics.h"

#include <prometheus/text_serializer.h>

#include <utility>

#include "server/metrics/instruments.h"
#include "server/metrics/metrics_listener.h"
#include "server/metrics/metrics_page.h"

namespace pregate {
namespace {

// Where kFinishLabels has how an answer ended, which it has.
size_t FinishIndex(const AnswerRecord& answer) {
  static_assert(static_cast<size_t>(FinishReason::kError) + 1 == kFinishLabels.size());
  return answer.drained ? kFinishLabels.size() - 1 : static_cast<size_t>(answer.finish) - 1;
}
static_assert(static_cast<size_t>(Rejection::kUnauthenticated) + 1 == kRejectionLabels.size());
static_assert(static_cast<size_t>(Listener::kHttp) + 1 == kListenerLabels.size());
static_assert(static_cast<size_t>(WatchedFiles::kCertificates) + 1 == kWatchedFilesLabels.size());
static_assert(static_cast<size_t>(SpanDrop::kCollector) + 1 == kSpanDropLabels.size());

}  // namespace

Metrics::Metrics(const Engine* engine, std::string served_model_name, MetricsCompat compat,
                 const EngineStats& before)
    : instruments_(std::make_shared<Instruments>()),
      page_(std::make_shared<MetricsPage>(engine, instruments_, std::move(served_model_name),
                                          compat, before)) {}

Metrics::~Metrics() = default;

void Metrics::ObserveStep(const StepStats& step) {
  const absl::Duration phases[] = {step.pregate, step.plan, step.execute, step.sample, step.commit};
  static_assert(std::size(phases) == kPhaseLabels.size());
  for (size_t i = 0; i < std::size(phases); ++i) {
    instruments_->step_seconds[i].Observe(absl::ToDoubleSeconds(phases[i]));
  }
  instruments_->step_rows.Observe(step.rows);
  instruments_->step_tokens.Observe(step.prompt_tokens + step.generated_tokens);
  instruments_->generation_tokens.Add(step.generated_tokens);
  if (step.expert_rows.empty()) return;
  int32_t distinct = 0;
  for (size_t e = 0; e < step.expert_rows.size() && e < kMaxExpertLabels; ++e) {
    instruments_->expert_rows[e].Add(step.expert_rows[e]);
    distinct += step.expert_rows[e] > 0;
  }
  instruments_->distinct_experts.Observe(distinct);
  instruments_->expert_stall_nanoseconds.Add(absl::ToInt64Nanoseconds(step.expert_stall));
}

void Metrics::ObserveInterToken(absl::Duration gap) {
  instruments_->inter_token_latency.Observe(absl::ToDoubleSeconds(gap));
}

void Metrics::ObserveAnswer(const AnswerRecord& answer) {
  Instruments& to = *instruments_;
  const RequestTiming& timing = answer.timing;
  if (answer.finish == FinishReason::kNone) return;  // no answer has ended
  to.finished[FinishIndex(answer)].Add(1);
  to.end_to_end.Observe(absl::ToDoubleSeconds(answer.end_to_end));
  to.queue_time.Observe(absl::ToDoubleSeconds(timing.queue));
  to.prompt_length.Observe(answer.prompt_tokens);
  to.answer_length.Observe(answer.completion_tokens);
  const bool generated = answer.completion_tokens > 0;
  if (!generated && timing.prefill <= absl::ZeroDuration()) return;  // its prompt was not through
  to.prompt_tokens.Add(answer.prompt_tokens);
  if (!generated) {  // it asked for no more than that
    to.prefill_time.Observe(absl::ToDoubleSeconds(timing.prefill));
    return;
  }
  to.time_to_first_token.Observe(absl::ToDoubleSeconds(timing.time_to_first_token));
  to.prefill_time.Observe(absl::ToDoubleSeconds(timing.prefill));
  to.decode_time.Observe(absl::ToDoubleSeconds(timing.decode));
  if (answer.completion_tokens == 1) return;  // nothing was decoded after the first
  to.time_per_output_token.Observe(absl::ToDoubleSeconds(timing.decode) /
                                   (answer.completion_tokens - 1));
}

void Metrics::CountRejection(Rejection reason) {
  instruments_->rejected[static_cast<size_t>(reason)].Add(1);
}

int64_t Metrics::rejections(Rejection reason) const {
  return instruments_->rejected[static_cast<size_t>(reason)].value();
}

void Metrics::SetOverloaded(bool overloaded) {
  instruments_->overloaded.store(overloaded, std::memory_order_relaxed);
}

void Metrics::CountFailedHandshakes(Listener where, int64_t count) {
  instruments_->failed_handshakes[static_cast<size_t>(where)].Add(count);
}

void Metrics::SetCertificateExpiry(absl::Time not_after) {
  instruments_->certificate_expiry.store(absl::ToUnixSeconds(not_after), std::memory_order_relaxed);
}

void Metrics::SetFilesInForce(WatchedFiles files, bool in_force) {
  instruments_->files_in_force[static_cast<size_t>(files)].store(in_force,
                                                                 std::memory_order_relaxed);
}

void Metrics::ShowSpans() { instruments_->traced.store(true, std::memory_order_relaxed); }

void Metrics::CountExportedSpans(int64_t count) { instruments_->spans_exported.Add(count); }

void Metrics::CountDroppedSpans(SpanDrop why, int64_t count) {
  instruments_->spans_dropped[static_cast<size_t>(why)].Add(count);
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(page_->Collect());
}

absl::Status Metrics::StartServer(const std::string& host, int port) {
  absl::StatusOr<std::unique_ptr<MetricsListener>> listener =
      MetricsListener::Start(host, port, page_);
  if (!listener.ok()) return listener.status();
  listener_ = *std::move(listener);
  return absl::OkStatus();
}

int Metrics::port() const { return listener_ == nullptr ? 0 : listener_->port(); }

}  // namespace pregate
