// Makers of Prometheus' metric families. Names are given without their prefix.
#ifndef PREGATE_SERVER_METRICS_FAMILIES_H_
#define PREGATE_SERVER_METRICS_FAMILIES_H_

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "server/metrics/instruments.h"

namespace pregate {

using Labels = std::vector<prometheus::ClientMetric::Label>;

prometheus::MetricFamily GaugeFamily(std::string name, std::string help, double value,
                                     Labels labels = {});
prometheus::MetricFamily CounterFamily(std::string name, std::string help, double value);
// One series for each of `values`, whose label `label` has the value at the same place of `words`.
prometheus::MetricFamily CounterFamily(std::string name, std::string help, std::string label,
                                       absl::Span<const char* const> words,
                                       absl::Span<const EventCounter> values);
prometheus::MetricFamily HistogramFamily(std::string name, std::string help,
                                         const BucketCounter& values);
prometheus::MetricFamily HistogramFamily(std::string name, std::string help, std::string label,
                                         absl::Span<const char* const> words,
                                         absl::Span<const BucketCounter> values);

}  // namespace pregate

#endif  // PREGATE_SERVER_METRICS_FAMILIES_H_
