// The scheduler in virtual time, policy by policy, over a recorded trace or one drawn at random: no
// model, no weights. What `pregate simulate` runs.
#ifndef PREGATE_ENGINE_SIMULATION_H_
#define PREGATE_ENGINE_SIMULATION_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/plan/simulate.h"

namespace pregate {

inline constexpr char kSyntheticTrace[] = "synthetic";

// A number below 0, or an empty list or text, is what the trace says, or else the default.
struct SimulationOptions {
  std::string trace = "";  // a file of `--record-trace`, or "synthetic"
  bool replay = false;     // only the recorded steps, as the server planned them

  // What is compared: a run for each load, each number of experts in memory and each policy.
  std::vector<std::string> policies = {"auto",  "off",          "on",
                                       "paper", "decode-first", "prefill-first"};
  std::vector<int32_t> experts_resident = {};
  std::vector<int32_t> load = {};  // percent of what decode-first serves in a closed loop

  double rate = 0;      // requests a second; 0: as recorded
  int32_t clients = 0;  // that each wait for their answer; 0: requests come when they come
  int32_t warm_up_requests = -1;  // a tenth

  int32_t max_num_seqs = -1;                 // 64
  int32_t max_num_step_seqs = -1;            // any
  int32_t max_num_batched_tokens = -1;       // 2048
  int32_t max_num_prefill_tokens = -1;       // 512
  int32_t router_lookahead_tokens = -1;      // as max_num_batched_tokens
  std::string expert_eviction = "recorded";  // or as of `serve`; synthetic: planned
  bool expert_prefetch = true;

  // Costs of a step. From the recorded steps; else those of Read-ME on the authors' A100 (section
  // 2.5 of the paper, table of router latencies), where an expert takes 40 ms to load.
  double step_ms = -1;    // any step
  double row_ms = -1;     // each of its rows
  double expert_ms = -1;  // each expert's worth of weights read
  double load_ms = -1;    // each expert's worth of weights loaded
  bool pipelined = true;  // loads overlap with the layers before theirs

  // What is drawn.
  uint64_t seed = 1;
  int32_t experts = 7;
  int32_t requests = 1000;
  int32_t prompt_tokens = 70;   // mean
  int32_t answer_tokens = 200;  // mean
  bool tied = false;            // seven experts share neurons (TiedUnits); else they are copies
  double stickiness = 0.61;     // tokens that do not ask the request's preference; all in all
                                // 71 % then have the expert of the token before
};

struct SimulationRow {
  std::string policy;
  bool recorded = false;         // the server's own steps
  int32_t experts_resident = 0;  // 0: as many bytes as recorded
  int32_t load = 0;              // percent; 0: not asked for
  SimulateReport report;
};

struct SimulationReport {
  int32_t experts = 1;
  int64_t requests = 0;  // of the workload
  int64_t recorded_steps = 0;
  SchedulerConfig scheduler;  // of all rows, but for what is compared
  SimulatedMachine machine;
  int64_t expert_bytes = 0;  // one expert's worth of weights
  double capacity = 0;       // requests a second, where a load was asked for
  std::vector<SimulationRow> rows;
};

// `progress` is called with the share that is done; may be null. INVALID_ARGUMENT "<flag>: <rule>;
// got <value>" and "<trace>: line N: ..."; NOT_FOUND where there is no such file.
absl::StatusOr<SimulationReport> RunSimulation(const SimulationOptions& options,
                                               const std::function<void(double)>& progress);

}  // namespace pregate

#endif  // PREGATE_ENGINE_SIMULATION_H_
