// The scheduler in virtual time: the very one that serves, before a machine that is a formula. What
// `pregate simulate` runs.
#ifndef PREGATE_ENGINE_PLAN_SIMULATE_H_
#define PREGATE_ENGINE_PLAN_SIMULATE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/plan/scheduler.h"
#include "engine/plan/trace_recorder.h"
#include "engine/plan/workload.h"

namespace pregate {

// A step takes fixed + per_row * rows + per_byte * (bytes of the units that its experts need).
// Loads run beside it, one after the other, those that it needs first:
//   pipelined: T = max(compute, load) + load / layers, where load is what it has to wait for;
//   else: T = compute + load.
struct SimulatedMachine {
  double fixed = 0;          // seconds
  double per_row = 0;        // seconds
  double per_byte = 0;       // seconds, of units read
  double load_per_byte = 0;  // seconds, of units loaded
  int32_t layers = 32;
  bool pipelined = true;
};

struct SimulateOptions {
  SchedulerConfig scheduler;
  SimulatedMachine machine;
  // Above 0: so many clients that each send the next request when theirs has ended; arrivals count
  // for nothing. 0: requests come when they come.
  int32_t clients = 0;
  // Requests and steps at the start that no number but the counts of the cache is about.
  int32_t warm_up_requests = 0;
  double longest_seconds = 1e9;       // of virtual time
  TraceRecorder* recorder = nullptr;  // unless null, hears all
};

struct Distribution {
  double mean = 0;
  double p50 = 0;
  double p95 = 0;
  double p99 = 0;
  double most = 0;
};

struct SimulateReport {
  std::string broken;    // "" or why it could not go on
  int64_t requests = 0;  // that ended, after warming up
  int64_t refused = 0;
  double seconds = 0;  // from the end of warming up to the last answer's end
  int64_t steps = 0;
  int64_t tokens = 0;  // of answers
  double tokens_per_second = 0;
  Distribution end_to_end;      // seconds of a request
  Distribution per_token;       // the same over its answer's tokens (normalised latency)
  Distribution first_token;     // seconds
  Distribution longest_gap;     // seconds, the longest between two tokens of each answer
  double distinct_experts = 0;  // of a step, the mean
  double rows = 0;              // of a step, the mean
  int64_t expert_steps = 0;     // sum over all steps of the experts they needed, from the start
  double stall_seconds = 0;
  double hit_ratio = 1;  // units in memory when the step was planned, over units needed
  std::array<double, kShadowPolicies> shadow_hit_ratio = {};
  double floor_hit_ratio = 1;
  int64_t load_bytes = 0;
  int64_t wasted_bytes = 0;
  int64_t preemptions = 0;
  int64_t draft_tokens = 0;  // guessed ahead of answers; and those that were right
  int64_t accepted_tokens = 0;
  ExpertStats experts;  // at the end
};

// Seven tied experts of about `expert_bytes` each, a unit for each set of owners. The shares make
// the union of 1 to 7 of them 1, 1.30, 1.46, 1.56, 1.64, 1.69 and 1.73 times one: as measured with
// the masks of Read-ME's recipe on SmolLM2-135M, half of the neurons for each expert.
std::vector<ExpertUnit> TiedUnits(int64_t expert_bytes);
inline constexpr int32_t kTiedExperts = 7;

// Runs a workload to its end. Requests bring their experts; tokens without ids are all different.
SimulateReport SimulateWorkload(const Workload& workload, const SimulateOptions& options);

// Goes through a recorded trace call by call: the same requests before the same steps, which take
// the recorded time and end the recorded loads. With the configuration of the server that recorded
// it, plans, hits and distinct experts are those of the server, exactly; `broken` says where they
// are not. Latencies are those of the recording.
SimulateReport ReplayWorkload(const Workload& workload, const SchedulerConfig& config);

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_SIMULATE_H_
