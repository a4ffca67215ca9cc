// MetricsPage: everything that a scrape shows, under its public names.
#ifndef PREGATE_SERVER_METRICS_METRICS_PAGE_H_
#define PREGATE_SERVER_METRICS_METRICS_PAGE_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/config/config.h"
#include "server/metrics/instruments.h"

namespace pregate {

class MetricsPage : public prometheus::Collectable {
 public:
  MetricsPage(const Engine* engine, std::shared_ptr<const Instruments> instruments,
              std::string served_model_name, MetricsCompat compat, const EngineStats& before);

  // Thread-safe. Series come with all their label values, zeros included.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const Engine* engine_;
  std::shared_ptr<const Instruments> instruments_;
  std::string served_model_name_;
  MetricsCompat compat_;
  const EngineStats before_;
  absl::Time started_ = absl::Now();
};

}  // namespace pregate

#endif  // PREGATE_SERVER_METRICS_METRICS_PAGE_H_
