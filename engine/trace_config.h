// How a server was configured, as a line of its trace (engine/plan/workload.h): with it a replay
// needs nothing but the trace.
#ifndef PREGATE_ENGINE_TRACE_CONFIG_H_
#define PREGATE_ENGINE_TRACE_CONFIG_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/plan/scheduler.h"

namespace pregate {

// {"server": 1, "max_num_seqs": 64, ..., "unit_owners": "0 1 01", "unit_bytes": [..]}: each field
// of the configuration, and of each unit the experts that own it, and its bytes.
std::string ToLine(const SchedulerConfig& config);

// The first such line of a trace, or nothing where there is none. `num_experts` is the trace's.
// INVALID_ARGUMENT "line N: <field>: <rule>; got <value>".
absl::StatusOr<std::optional<SchedulerConfig>> ReadServerConfig(std::string_view trace,
                                                                int32_t num_experts);

// Whether the experts' memory holds what every unit of all owners and any one expert need: what
// ExpertConfig asks for.
bool HoldsAnyExpert(const ExpertConfig& experts);

}  // namespace pregate

#endif  // PREGATE_ENGINE_TRACE_CONFIG_H_
