// The process_* metrics that every Prometheus client library offers.
#ifndef PREGATE_SERVER_METRICS_PROCESS_METRICS_H_
#define PREGATE_SERVER_METRICS_PROCESS_METRICS_H_

#include <prometheus/metric_family.h>

#include <vector>

namespace pregate {

// Reads /proc/self; what cannot be read is left out. Names are whole.
std::vector<prometheus::MetricFamily> ProcessFamilies();

}  // namespace pregate

#endif  // PREGATE_SERVER_METRICS_PROCESS_METRICS_H_
