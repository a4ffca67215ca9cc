// World: everything that happens to a scheduler in one run of the simulator, as a value. A seed
// draws it; dropping parts of it shrinks a failure.
#ifndef PREGATE_TESTS_PLAN_SIM_WORLD_H_
#define PREGATE_TESTS_PLAN_SIM_WORLD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/plan/request.h"
#include "engine/plan/scheduler.h"

namespace pregate {

struct Arrival {
  int32_t step = 0;  // comes before this step
  Request request;
};

enum class FaultKind : uint8_t {
  kCancel,        // the client leaves between two steps
  kDeadline,      // its deadline passes between two steps
  kCancelInStep,  // the client leaves between Plan and Commit
  kFailStep,      // the step does not run
  kCancelAll,     // the server stops
};

struct Fault {
  FaultKind kind = FaultKind::kCancel;
  int32_t step = 0;
  SequenceId id = 0;  // of a request that waits, runs, has ended, or has not come yet
};

struct World {
  SchedulerConfig config;
  int32_t hash_bits = 64;  // of the prefix cache's hash; 64: the real one
  int32_t vocabulary = 2;
  bool timed = false;             // steps and loads are measured
  bool loads_fail = false;        // now and then
  uint64_t load_seed = 0;         // of when loads end
  std::vector<Arrival> arrivals;  // by step
  std::vector<Fault> faults;      // by step
};

World DrawWorld(uint64_t seed);

// In as many lines as it has requests and faults.
std::string ToString(const World& world);

}  // namespace pregate

#endif  // PREGATE_TESTS_PLAN_SIM_WORLD_H_
