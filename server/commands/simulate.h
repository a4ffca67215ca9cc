// `pregate simulate TRACE`.
#ifndef PREGATE_SERVER_COMMANDS_SIMULATE_H_
#define PREGATE_SERVER_COMMANDS_SIMULATE_H_

#include "absl/status/status.h"
#include "server/config/config.h"

namespace pregate {

// Runs the scheduler in virtual time and writes the report to standard output. Errors as
// RunSimulation; FAILED_PRECONDITION when a replay comes to other plans than the server did.
absl::Status Simulate(const SimulateConfig& config);

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_SIMULATE_H_
