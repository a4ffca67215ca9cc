#include "server/metrics/metrics_page.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/metrics/expert_families.h"
#include "server/metrics/families.h"
#include "server/metrics/process_metrics.h"

namespace pregate {
namespace {

using Families = std::vector<prometheus::MetricFamily>;

void Append(Families more, Families* page) {
  page->insert(page->end(), std::make_move_iterator(more.begin()),
               std::make_move_iterator(more.end()));
}

Families WithPrefix(const char* prefix, Families families) {
  for (prometheus::MetricFamily& family : families) family.name.insert(0, prefix);
  return families;
}

// vLLM's labels of each series: the model, and which of the server's engines, of which we have one.
Families WithVllmLabels(const std::string& model_name, Families families) {
  for (prometheus::MetricFamily& family : families) {
    for (prometheus::ClientMetric& series : family.metric) {
      series.label.push_back({"model_name", model_name});
      series.label.push_back({"engine", "0"});
    }
  }
  return families;
}

// What `now` has counted since `before`. Gauges and ratios are those of `now`.
EngineStats Since(const EngineStats& before, EngineStats now) {
  for (int64_t EngineStats::*count :
       {&EngineStats::preemptions, &EngineStats::prefix_queries, &EngineStats::prefix_hits,
        &EngineStats::drafts, &EngineStats::draft_tokens, &EngineStats::accepted_tokens,
        &EngineStats::steps}) {
    now.*count -= before.*count;
  }
  for (int64_t ExpertCounters::*count :
       {&ExpertCounters::hits, &ExpertCounters::late, &ExpertCounters::misses,
        &ExpertCounters::lookahead_steps}) {
    now.experts.*count -= before.experts.*count;
  }
  const auto subtract = [](const auto& from, auto* counts) {
    for (size_t i = 0; i < from.size(); ++i) (*counts)[i] -= from[i];
  };
  subtract(before.experts.loads, &now.experts.loads);
  subtract(before.experts.load_bytes, &now.experts.load_bytes);
  subtract(before.experts.wasted_bytes, &now.experts.wasted_bytes);
  subtract(before.experts.lookahead, &now.experts.lookahead);
  return now;
}

// What the endpoint pickers of gateways and autoscalers read.
Families GatewayFamilies(const EngineStats& stats, const ModelInfo& model) {
  return {
      GaugeFamily("num_requests_waiting", "Answers that have not begun.", stats.waiting),
      GaugeFamily("num_requests_running", "Answers that are being computed.", stats.running),
      GaugeFamily("kv_cache_usage_perc", "Share of the KV cache that answers hold, 0 to 1.",
                  stats.kv_cache_usage),
      GaugeFamily("cache_config_info", "Size of the KV cache: tokens in a block, blocks.", 1,
                  {{"block_size", absl::StrCat(model.block_tokens)},
                   {"num_gpu_blocks", absl::StrCat(model.kv_blocks)}}),
  };
}

Families AnswerFamilies(const Instruments& from) {
  return {
      HistogramFamily("time_to_first_token_seconds", "From submission to the first token.",
                      from.time_to_first_token),
      HistogramFamily("inter_token_latency_seconds", "From one token of an answer to the next.",
                      from.inter_token_latency),
      HistogramFamily("request_time_per_output_token_seconds",
                      "An answer's mean time from token to token.", from.time_per_output_token),
      HistogramFamily("e2e_request_latency_seconds", "From arrival to the end of the answer.",
                      from.end_to_end),
      HistogramFamily("request_queue_time_seconds", "From submission to the first step.",
                      from.queue_time),
      HistogramFamily("request_prefill_time_seconds", "From the first step to the first token.",
                      from.prefill_time),
      HistogramFamily("request_decode_time_seconds", "From the first token to the last.",
                      from.decode_time),
      HistogramFamily("request_prompt_tokens", "Tokens of an answer's prompt.", from.prompt_length),
      HistogramFamily("request_generation_tokens", "Tokens of an answer.", from.answer_length),
      HistogramFamily("iteration_tokens_total", "Prompt and generated tokens of a step.",
                      from.step_tokens),
      CounterFamily("prompt_tokens_total", "Prompt tokens of ended answers that had a token.",
                    static_cast<double>(from.prompt_tokens.value())),
      CounterFamily("generation_tokens_total", "Tokens sampled.",
                    static_cast<double>(from.generation_tokens.value())),
      CounterFamily("request_success_total", "Answers that have ended, by how.", "finished_reason",
                    kFinishLabels, from.finished),
  };
}

Families SchedulerFamilies(const EngineStats& stats) {
  return {
      CounterFamily("num_preemptions_total", "Answers set back to free memory for others.",
                    static_cast<double>(stats.preemptions)),
      CounterFamily("prefix_cache_queries_total", "Tokens looked up in the prefix cache.",
                    static_cast<double>(stats.prefix_queries)),
      CounterFamily("prefix_cache_hits_total", "Tokens found in the prefix cache.",
                    static_cast<double>(stats.prefix_hits)),
      CounterFamily("spec_decode_num_drafts_total", "Answers that a step guessed ahead of.",
                    static_cast<double>(stats.drafts)),
      CounterFamily("spec_decode_num_draft_tokens_total", "Tokens guessed.",
                    static_cast<double>(stats.draft_tokens)),
      CounterFamily("spec_decode_num_accepted_tokens_total", "Of these, tokens that were right.",
                    static_cast<double>(stats.accepted_tokens)),
  };
}

// What the outside world makes of tokens and certificates.
Families IdentityFamilies(const Instruments& from) {
  Families families = {
      CounterFamily("tls_handshakes_failed_total", "Connections that could not agree on TLS.",
                    "listener", kListenerLabels, from.failed_handshakes),
  };
  const int64_t expiry = from.certificate_expiry.load(std::memory_order_relaxed);
  if (expiry != 0) {
    families.push_back(GaugeFamily("tls_certificate_expiry_timestamp_seconds",
                                   "The end of the server's certificate.",
                                   static_cast<double>(expiry)));
  }
  prometheus::MetricFamily in_force{"files_in_force",
                                    "1: as they are now; 0: they cannot be used, older ones stay.",
                                    prometheus::MetricType::Gauge,
                                    {}};
  for (size_t i = 0; i < kWatchedFilesLabels.size(); ++i) {
    const int value = from.files_in_force[i].load(std::memory_order_relaxed);
    if (value < 0) continue;
    prometheus::ClientMetric& series = in_force.metric.emplace_back();
    series.label = {{"files", kWatchedFilesLabels[i]}};
    series.gauge.value = value;
  }
  if (!in_force.metric.empty()) families.push_back(std::move(in_force));
  return families;
}

// What becomes of traces.
Families SpanFamilies(const Instruments& from) {
  if (!from.traced.load(std::memory_order_relaxed)) return {};
  return {
      CounterFamily("trace_spans_exported_total", "Spans that the collector has taken.",
                    static_cast<double>(from.spans_exported.value())),
      CounterFamily("trace_spans_dropped_total", "Spans that were lost, by reason.", "reason",
                    kSpanDropLabels, from.spans_dropped),
  };
}

// What only we have.
Families OwnFamilies(const Instruments& from, absl::Duration last_step_age) {
  return {
      CounterFamily("requests_rejected_total", "Requests turned away, by reason.", "reason",
                    kRejectionLabels, from.rejected),
      GaugeFamily("overloaded", "1: not ready, since the queue has been full for long.",
                  from.overloaded.load(std::memory_order_relaxed) ? 1 : 0),
      HistogramFamily("step_seconds", "Time of one step, by phase.", "phase", kPhaseLabels,
                      from.step_seconds),
      HistogramFamily("step_rows", "Rows computed in one step.", from.step_rows),
      GaugeFamily("last_step_age_seconds",
                  "Since the end of the newest step; a stall only while answers run.",
                  absl::ToDoubleSeconds(last_step_age)),
      GaugeFamily("build_info", "What is running.", 1, {{"version", PREGATE_VERSION}}),
  };
}

}  // namespace

MetricsPage::MetricsPage(const Engine* engine, std::shared_ptr<const Instruments> instruments,
                         std::string served_model_name, MetricsCompat compat,
                         const EngineStats& before)
    : engine_(engine),
      instruments_(std::move(instruments)),
      served_model_name_(std::move(served_model_name)),
      compat_(compat),
      before_(before) {}

Families MetricsPage::Collect() const {
  const EngineStats stats = Since(before_, engine_->stats());
  Families shared = GatewayFamilies(stats, engine_->model());
  Append(AnswerFamilies(*instruments_), &shared);
  Append(SchedulerFamilies(stats), &shared);

  Families page = WithPrefix("pregate_", shared);
  // Before the first step there is no time of it; and clocks are set back now and then.
  const absl::Duration age = absl::Now() - std::max(stats.last_step, started_);
  Append(WithPrefix("pregate_", OwnFamilies(*instruments_, std::max(age, absl::ZeroDuration()))),
         &page);
  Append(WithPrefix("pregate_", IdentityFamilies(*instruments_)), &page);
  Append(WithPrefix("pregate_", SpanFamilies(*instruments_)), &page);
  Append(WithPrefix("pregate_", ExpertFamilies(stats.experts, *instruments_)), &page);
  Append(ProcessFamilies(), &page);
  if (compat_ == MetricsCompat::kVllm) {
    Append(WithPrefix("vllm:", WithVllmLabels(served_model_name_, std::move(shared))), &page);
  }
  return page;
}

}  // namespace pregate
