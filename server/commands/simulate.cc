#include "server/commands/simulate.h"

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/simulation.h"
#include "server/commands/progress_bar.h"
#include "server/simulate_report.h"

namespace pregate {
namespace {

absl::StatusOr<SimulationReport> Run(const SimulateConfig& config) {
  ProgressBar bar("Simulating");
  return RunSimulation(config.simulation, [&bar](double share) { bar.Show(share); });
}

}  // namespace

absl::Status Simulate(const SimulateConfig& config) {
  const absl::StatusOr<SimulationReport> report = Run(config);
  if (!report.ok()) return report.status();
  const std::string text = config.json ? SimulateJson(*report) : SimulateTable(*report);
  std::fputs(text.c_str(), stdout);
  for (const SimulationRow& row : report->rows) {
    if (row.report.broken.empty()) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(config.simulation.trace, ": cannot be replayed: ", row.report.broken));
  }
  return absl::OkStatus();
}

}  // namespace pregate
