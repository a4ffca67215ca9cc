// expert_tables: the scheduler in virtual time before four machines, policy by policy: hit ratios,
// throughput and latencies. Every number comes from the scheduler that serves; the machines are
// formulas.
//
//   expert_tables [cache] [load] [trace]     the tables to print; without any, all
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "engine/plan/simulate.h"

namespace pregate {
namespace {

constexpr int32_t kExperts = 7;
constexpr int64_t kExpertBytes = 1'000'000;

struct Machine {
  const char* name;
  SimulatedMachine costs;
  bool tied;
};

// A step's cost in ms: a + b * rows + c for each expert's worth of bytes.
Machine MakeMachine(const char* name, double a, double b, double c, bool tied) {
  SimulatedMachine costs;
  costs.fixed = a * 1e-3;
  costs.per_row = b * 1e-3;
  costs.per_byte = c * 1e-3 / kExpertBytes;
  return {name, costs, tied};
}

// Launch-bound (the paper's A100), bandwidth-bound copies, the same tied, a CPU.
const std::vector<Machine>& Machines() {
  static const std::vector<Machine> machines = {
      MakeMachine("L", 31, 0.03, 2.5, false), MakeMachine("W", 10, 0.04, 9.5, false),
      MakeMachine("T", 10, 0.04, 9.5, true), MakeMachine("C", 10, 2, 9.5, false)};
  return machines;
}

// Copies, or neurons by owners: unions of 1..7 experts are 1, 1.28, 1.45, 1.57, 1.66, 1.73, 1.78
// times one expert (shares of those owned by 1..7 experts, spread over all sets of so many).
std::vector<ExpertUnit> Units(bool tied) {
  std::vector<ExpertUnit> units;
  if (!tied) {
    for (int32_t e = 0; e < kExperts; ++e) units.push_back({ExpertMask{1} << e, kExpertBytes});
    return units;
  }
  constexpr double kOwned[kExperts] = {0.35, 0.25, 0.2, 0.17, 0.16, 0.16, 0.49};
  constexpr int32_t kSets[kExperts] = {7, 21, 35, 35, 21, 7, 1};
  for (ExpertMask owners = 1; owners < ExpertMask{1} << kExperts; ++owners) {
    const int32_t count = __builtin_popcountll(owners);
    units.push_back(
        {owners, static_cast<int64_t>(kExpertBytes * kOwned[count - 1] / kSets[count - 1])});
  }
  return units;
}

struct Policy {
  const char* name;
  ExpertPolicy policy;
  ExpertEviction eviction = ExpertEviction::kPlanned;
  bool prefetch = true;
  bool pipelined = true;
};

SimulateOptions Options(const Machine& machine, const Policy& policy, int32_t seqs, int32_t cap) {
  SimulateOptions options;
  SchedulerConfig& config = options.scheduler;
  config.max_num_seqs = seqs;
  config.max_num_step_seqs = cap;
  config.max_num_batched_tokens = 2048;
  config.max_num_prefill_tokens = 512;
  config.max_logits = seqs;
  config.max_num_queued_reqs = 1 << 20;
  config.max_num_queued_tokens = int64_t{1} << 40;
  config.max_model_len = 4096;
  config.num_blocks = seqs * 2048 / 16;
  config.enable_prefix_caching = false;
  config.experts.num_experts = kExperts;
  config.experts.num_layers = machine.costs.layers;
  config.experts.policy = policy.policy;
  config.experts.eviction = policy.eviction;
  config.experts.prefetch = policy.prefetch;
  config.experts.units = Units(machine.tied);
  options.machine = machine.costs;
  options.machine.pipelined = policy.pipelined;
  return options;
}

// --- Experts that do not fit ---

void PrintCacheTable(double load_ms, int32_t cap) {
  const std::vector<Policy> policies = {
      {"fcfs, on demand, lru", ExpertPolicy::kFcfs, ExpertEviction::kLru, false, false},
      {"fcfs, pipelined, lru", ExpertPolicy::kFcfs, ExpertEviction::kLru, false, true},
      {"paper, pipelined, lru", ExpertPolicy::kPaper, ExpertEviction::kLru, false, true},
      {"paper, planned eviction", ExpertPolicy::kPaper, ExpertEviction::kPlanned, false, true},
      {"planned, no prefetch", ExpertPolicy::kPlanned, ExpertEviction::kPlanned, false, true},
      {"planned", ExpertPolicy::kPlanned, ExpertEviction::kPlanned, true, true},
      {"auto", ExpertPolicy::kAuto, ExpertEviction::kPlanned, true, true}};
  std::printf("\n64 sequences, %d a step, machine L, %.0f ms to load an expert\n", cap, load_ms);
  std::printf("%-24s %3s %6s %6s %6s | %6s %5s %5s %5s %6s | %7s %7s %7s %6s\n", "policy", "fit",
              "tok/s", "hit %", "unique", "random", "lru", "lfu", "stat", "belady", "stall %",
              "gap p95", "gap p99", "wasted");
  for (int32_t fit = 2; fit <= 5; ++fit) {
    for (const Policy& policy : policies) {
      SimulateOptions options = Options(Machines()[0], policy, 64, cap);
      options.scheduler.experts.cache_bytes = fit * kExpertBytes;
      options.machine.load_per_byte = load_ms * 1e-3 / kExpertBytes;
      options.clients = 64;
      options.warm_up_requests = 100;
      const Workload workload = DrawWorkload({.requests = 600});
      const SimulateReport r = SimulateWorkload(workload, options);
      const auto percent = [&](ShadowPolicy p) {
        return 100 * r.shadow_hit_ratio[static_cast<size_t>(p)];
      };
      std::printf(
          "%-24s %3d %6.0f %6.1f %6.2f | %6.1f %5.1f %5.1f %5.1f %6.1f | %7.1f %7.2f %7.2f "
          "%6.0f %s\n",
          policy.name, fit, r.tokens_per_second, 100 * r.hit_ratio, r.distinct_experts,
          percent(ShadowPolicy::kRandom), percent(ShadowPolicy::kLru), percent(ShadowPolicy::kLfu),
          percent(ShadowPolicy::kStatic), percent(ShadowPolicy::kBeladyOffline),
          100 * r.stall_seconds / r.seconds, r.longest_gap.p95, r.longest_gap.p99,
          static_cast<double>(r.wasted_bytes) / kExpertBytes, r.broken.c_str());
    }
  }
}

// --- All experts resident, open loop ---

double Capacity(const Machine& machine, int32_t seqs, int32_t cap) {
  SimulateOptions options = Options(machine, {"", ExpertPolicy::kDecodeFirst}, seqs, cap);
  options.clients = seqs;
  options.warm_up_requests = 200;
  const SimulateReport r = SimulateWorkload(DrawWorkload({.requests = 1200}), options);
  return static_cast<double>(r.requests) / r.seconds;
}

void PrintLoadTable(const Machine& machine, int32_t seqs, int32_t cap) {
  const std::vector<Policy> policies = {{"decode-first", ExpertPolicy::kDecodeFirst},
                                        {"prefill-first", ExpertPolicy::kPrefillFirst},
                                        {"fcfs", ExpertPolicy::kFcfs},
                                        {"paper", ExpertPolicy::kPaper},
                                        {"planned", ExpertPolicy::kPlanned},
                                        {"auto", ExpertPolicy::kAuto}};
  const double capacity = Capacity(machine, seqs, cap);
  std::printf("\nmachine %s, all resident, %d sequences, cap %d; capacity %.3f requests/s\n",
              machine.name, seqs, cap, capacity);
  std::printf("%4s %-14s %8s %8s %8s %8s | %7s %7s %7s | %7s %6s  (change to decode-first in %%)\n",
              "load", "policy", "mean s", "p95 s", "p99 s", "ms/tok", "ttft", "gap p95", "gap p99",
              "tok/s", "unique");
  for (const double load : {0.5, 0.7, 0.9, 0.98}) {
    double base[3] = {};
    const Workload workload = DrawWorkload({.requests = 6000, .rate = load * capacity});
    for (const Policy& policy : policies) {
      SimulateOptions options = Options(machine, policy, seqs, cap);
      options.warm_up_requests = 500;
      const SimulateReport r = SimulateWorkload(workload, options);
      const double now[3] = {r.end_to_end.mean, r.end_to_end.p95, r.end_to_end.p99};
      if (base[0] == 0) std::memcpy(base, now, sizeof(base));
      std::printf(
          "%4.2f %-14s %8.2f %8.2f %8.2f %8.1f | %7.2f %7.2f %7.2f | %7.1f %6.2f  %+6.1f "
          "%+6.1f %+6.1f %s\n",
          load, policy.name, now[0], now[1], now[2], 1e3 * r.per_token.mean, r.first_token.mean,
          r.longest_gap.p95, r.longest_gap.p99, r.tokens_per_second, r.distinct_experts,
          100 * (now[0] / base[0] - 1), 100 * (now[1] / base[1] - 1), 100 * (now[2] / base[2] - 1),
          r.broken.c_str());
    }
  }
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  const auto wanted = [&](const char* table) {
    bool found = argc == 1;
    for (int i = 1; i < argc; ++i) found |= std::strcmp(argv[i], table) == 0;
    return found;
  };
  if (wanted("cache")) {
    pregate::PrintCacheTable(40, 16);
    pregate::PrintCacheTable(170, 16);
    pregate::PrintCacheTable(40, 0);
  }
  if (wanted("load")) {
    for (const pregate::Machine& machine : pregate::Machines()) {
      pregate::PrintLoadTable(machine, 96, 32);
    }
    for (const pregate::Machine& machine : pregate::Machines()) {
      pregate::PrintLoadTable(machine, 96, 0);
    }
  }
  return 0;
}
