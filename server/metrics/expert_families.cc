#include "server/metrics/expert_families.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/metrics/families.h"

namespace pregate {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// A family whose series differ in one label.
template <typename Word>
MetricFamily Labelled(MetricType type, std::string name, std::string help, std::string label,
                      absl::Span<const Word> words, absl::Span<const double> values) {
  MetricFamily family{std::move(name), std::move(help), type, {}};
  for (size_t i = 0; i < words.size(); ++i) {
    ClientMetric& series = family.metric.emplace_back();
    series.label = {{label, std::string(words[i])}};
    (type == MetricType::Counter ? series.counter.value : series.gauge.value) = values[i];
  }
  return family;
}

template <size_t N>
MetricFamily ByCause(std::string name, std::string help, const std::array<int64_t, N>& counts) {
  static_assert(N == kCauseLabels.size());
  const std::vector<double> values(counts.begin(), counts.end());
  return Labelled<const char*>(MetricType::Counter, std::move(name), std::move(help), "cause",
                               kCauseLabels, values);
}

MetricFamily RowsByExpert(int32_t experts, const Instruments& from) {
  std::vector<std::string> words;
  std::vector<double> values;
  for (int32_t e = 0; e < std::min(experts, kMaxExpertLabels); ++e) {
    words.push_back(absl::StrCat(e));
    values.push_back(static_cast<double>(from.expert_rows[static_cast<size_t>(e)].value()));
  }
  return Labelled<std::string>(MetricType::Counter, "expert_rows_total",
                               "Rows that experts computed.", "expert", words, values);
}

// Edges 0, 1, 2, ... steps.
MetricFamily Lookahead(const ExpertCounters& experts) {
  ClientMetric series;
  ClientMetric::Histogram& histogram = series.histogram;
  for (size_t steps = 0; steps + 1 < experts.lookahead.size(); ++steps) {
    histogram.sample_count += static_cast<uint64_t>(experts.lookahead[steps]);
    histogram.bucket.push_back({histogram.sample_count, static_cast<double>(steps)});
  }
  histogram.sample_count += static_cast<uint64_t>(experts.lookahead.back());
  histogram.sample_sum = static_cast<double>(experts.lookahead_steps);
  return {"expert_lookahead_steps",
          "Steps from the start of a load to its first use.",
          MetricType::Histogram,
          {std::move(series)}};
}

}  // namespace

std::vector<MetricFamily> ExpertFamilies(const ExpertCounters& experts, const Instruments& from) {
  if (experts.experts == 0) return {};
  constexpr const char* kOutcomes[] = {"hit", "late", "miss"};
  const double outcomes[] = {static_cast<double>(experts.hits), static_cast<double>(experts.late),
                             static_cast<double>(experts.misses)};
  std::vector<MetricFamily> families = {
      HistogramFamily("distinct_experts_per_step", "Experts that a step computed rows of.",
                      from.distinct_experts),
      RowsByExpert(experts.experts, from),
      Labelled<const char*>(MetricType::Counter, "expert_cache_requests_total",
                            "Units of expert weights that steps needed, by where they were.",
                            "outcome", kOutcomes, outcomes),
      ByCause("expert_loads_total", "Units loaded, by why.", experts.loads),
      ByCause("expert_load_bytes_total", "Bytes of them.", experts.load_bytes),
      ByCause("expert_wasted_bytes_total", "Bytes loaded and evicted before a step needed them.",
              experts.wasted_bytes),
      CounterFamily("expert_stall_seconds_total", "Time that steps waited for expert weights.",
                    static_cast<double>(from.expert_stall_nanoseconds.value()) * 1e-9),
      Lookahead(experts),
  };
  if (experts.all_resident) return families;
  static_assert(kShadowLabels.size() == ExpertCounters::kShadows);
  families.push_back(
      Labelled<const char*>(MetricType::Gauge, "expert_shadow_hit_ratio",
                            "What other ways to evict would have hit on the same accesses, 0 to 1.",
                            "policy", kShadowLabels, experts.shadow_hit_ratio));
  families.push_back(GaugeFamily("expert_floor_hit_ratio",
                                 "What accesses chosen blindly would hit: the share that fits.",
                                 experts.floor_hit_ratio));
  return families;
}

}  // namespace pregate
