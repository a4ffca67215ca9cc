// What the page says of a pre-gating router's experts.
#ifndef PREGATE_SERVER_METRICS_EXPERT_FAMILIES_H_
#define PREGATE_SERVER_METRICS_EXPERT_FAMILIES_H_

#include <prometheus/metric_family.h>

#include <vector>

#include "engine/engine.h"
#include "server/metrics/instruments.h"

namespace pregate {

// Empty for models without such a router.
std::vector<prometheus::MetricFamily> ExpertFamilies(const ExpertCounters& experts,
                                                     const Instruments& from);

}  // namespace pregate

#endif  // PREGATE_SERVER_METRICS_EXPERT_FAMILIES_H_
