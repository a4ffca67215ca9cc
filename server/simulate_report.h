// `pregate simulate`'s report, for people and for programs.
#ifndef PREGATE_SERVER_SIMULATE_REPORT_H_
#define PREGATE_SERVER_SIMULATE_REPORT_H_

#include <string>

#include "engine/simulation.h"

namespace pregate {

std::string SimulateTable(const SimulationReport& report);
std::string SimulateJson(const SimulationReport& report);

}  // namespace pregate

#endif  // PREGATE_SERVER_SIMULATE_REPORT_H_
