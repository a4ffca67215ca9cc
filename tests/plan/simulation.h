// The simulator: drives the scheduler that serves through a world, with a fake model behind it and
// a ledger beside it. No clock, no thread, nothing random that is not in the world.
#ifndef PREGATE_TESTS_PLAN_SIMULATION_H_
#define PREGATE_TESTS_PLAN_SIMULATION_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "tests/plan/sim_ledger.h"
#include "tests/plan/sim_world.h"

namespace pregate {

struct SimulationResult {
  std::string broken;  // "" or what was wrong first
  uint64_t trace = 0;  // hash of all plans and events
  Ledger::Slowest slowest;

  // What happened, to see that it does happen.
  int64_t steps = 0;
  int64_t rows = 0;
  int64_t requests = 0;
  int64_t refused = 0;
  int64_t cancelled = 0;
  int64_t failed_steps = 0;
  int64_t preemptions = 0;
  int64_t prefix_hits = 0;  // tokens
  int64_t draft_tokens = 0;
  int64_t accepted_tokens = 0;
  int64_t unit_hits = 0;
  int64_t loads = 0;
};

struct SimulationOptions {
  std::ostream* log = nullptr;  // unless null, gets every step in words
  // Without them only the ledger judges: what it finds, it finds from outside.
  bool check_invariants = true;
};

SimulationResult Simulate(const World& world, const SimulationOptions& options = {});

// Drops requests and faults as long as the world stays broken.
World Shrink(World world, const SimulationOptions& options = {});

}  // namespace pregate

#endif  // PREGATE_TESTS_PLAN_SIMULATION_H_
