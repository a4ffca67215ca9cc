#include "server/metrics/families.h"

#include <utility>

namespace pregate {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

ClientMetric HistogramSeries(const BucketCounter& values) {
  ClientMetric series;
  ClientMetric::Histogram& histogram = series.histogram;
  // The count is that of the buckets read, so that both agree while others go on observing.
  for (size_t i = 0; i < values.edges().size(); ++i) {
    histogram.sample_count += values.count(i);
    histogram.bucket.push_back({histogram.sample_count, values.edges()[i]});
  }
  histogram.sample_count += values.count(values.edges().size());
  histogram.sample_sum = values.sum();
  return series;
}

}  // namespace

MetricFamily GaugeFamily(std::string name, std::string help, double value, Labels labels) {
  ClientMetric series;
  series.label = std::move(labels);
  series.gauge.value = value;
  return {std::move(name), std::move(help), MetricType::Gauge, {std::move(series)}};
}

MetricFamily CounterFamily(std::string name, std::string help, double value) {
  ClientMetric series;
  series.counter.value = value;
  return {std::move(name), std::move(help), MetricType::Counter, {std::move(series)}};
}

MetricFamily CounterFamily(std::string name, std::string help, std::string label,
                           absl::Span<const char* const> words,
                           absl::Span<const EventCounter> values) {
  MetricFamily family{std::move(name), std::move(help), MetricType::Counter, {}};
  for (size_t i = 0; i < words.size(); ++i) {
    ClientMetric& series = family.metric.emplace_back();
    series.label = {{label, words[i]}};
    series.counter.value = static_cast<double>(values[i].value());
  }
  return family;
}

MetricFamily HistogramFamily(std::string name, std::string help, const BucketCounter& values) {
  return {std::move(name), std::move(help), MetricType::Histogram, {HistogramSeries(values)}};
}

MetricFamily HistogramFamily(std::string name, std::string help, std::string label,
                             absl::Span<const char* const> words,
                             absl::Span<const BucketCounter> values) {
  MetricFamily family{std::move(name), std::move(help), MetricType::Histogram, {}};
  for (size_t i = 0; i < words.size(); ++i) {
    family.metric.push_back(HistogramSeries(values[i]));
    family.metric.back().label = {{label, words[i]}};
  }
  return family;
}

}  // namespace pregate
