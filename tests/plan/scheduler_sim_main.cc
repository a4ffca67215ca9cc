// scheduler_sim: runs the simulator over many seeds.
//
//   scheduler_sim --seeds 100000 --first 1 --threads 2     stops at the lowest seed that breaks
//   scheduler_sim --verbose 4711                           one seed in words
//   scheduler_sim --check_invariants 0                     judge from outside alone
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "tests/plan/sim_random.h"
#include "tests/plan/simulation.h"

namespace pregate {
namespace {

constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kReplayEvery = 16;  // I17 costs a second run, so not every seed pays it

struct Flags {
  uint64_t seeds = 100'000;
  uint64_t first = 1;
  uint64_t threads = 2;
  uint64_t verbose = kNone;
  bool check_invariants = true;

  SimulationOptions options(std::ostream* log = nullptr) const {
    return {.log = log, .check_invariants = check_invariants};
  }
};

struct Totals {
  SimulationResult sum;
  std::string broken;  // of the lowest seed that broke
  uint64_t broken_seed = kNone;

  void Add(uint64_t seed, const SimulationResult& run) {
    sum.trace ^= Mix(seed, run.trace);
    sum.steps += run.steps;
    sum.rows += run.rows;
    sum.requests += run.requests;
    sum.refused += run.refused;
    sum.cancelled += run.cancelled;
    sum.failed_steps += run.failed_steps;
    sum.preemptions += run.preemptions;
    sum.prefix_hits += run.prefix_hits;
    sum.draft_tokens += run.draft_tokens;
    sum.accepted_tokens += run.accepted_tokens;
    sum.unit_hits += run.unit_hits;
    sum.loads += run.loads;
    if (run.slowest.plans * sum.slowest.allowed > sum.slowest.plans * run.slowest.allowed) {
      sum.slowest = run.slowest;
    }
    if (!run.broken.empty() && seed < broken_seed) {
      broken = run.broken;
      broken_seed = seed;
    }
  }
  void Add(const Totals& other) {
    const uint64_t trace = sum.trace ^ other.sum.trace;
    Add(0, other.sum);
    sum.trace = trace;
    if (other.broken_seed < broken_seed) {
      broken = other.broken;
      broken_seed = other.broken_seed;
    }
  }
};

// An assertion of the scheduler's own ends the process: say first which seed it was.
thread_local volatile uint64_t current_seed = 0;

void OnCrash(int signal) {
  char line[64];
  const int size = std::snprintf(line, sizeof(line), "seed %llu: crashed (signal %d)\n",
                                 static_cast<unsigned long long>(current_seed), signal);
  if (write(STDOUT_FILENO, line, static_cast<size_t>(size)) < 0) _exit(3);
  _exit(2);
}

SimulationResult RunSeed(const Flags& flags, uint64_t seed) {
  current_seed = seed;
  const World world = DrawWorld(seed);
  SimulationResult run = Simulate(world, flags.options());
  if (run.broken.empty() && seed % kReplayEvery == 0 &&
      Simulate(world, flags.options()).trace != run.trace) {
    run.broken = "I17: the same seed gave another trace";
  }
  return run;
}

// Seeds first, first + threads, ... of one thread, up to the lowest that any thread found broken.
Totals RunShare(const Flags& flags, uint64_t share, std::atomic<uint64_t>* lowest_broken) {
  Totals totals;
  for (uint64_t i = share; i < flags.seeds; i += flags.threads) {
    const uint64_t seed = flags.first + i;
    if (seed > lowest_broken->load()) break;
    const SimulationResult run = RunSeed(flags, seed);
    totals.Add(seed, run);
    if (run.broken.empty()) continue;
    uint64_t lowest = lowest_broken->load();
    while (seed < lowest && !lowest_broken->compare_exchange_weak(lowest, seed)) {
    }
    break;
  }
  return totals;
}

Totals RunAll(const Flags& flags) {
  std::atomic<uint64_t> lowest_broken = kNone;
  std::vector<Totals> shares(flags.threads);
  std::vector<std::thread> threads;
  for (uint64_t share = 0; share < flags.threads; ++share) {
    threads.emplace_back([&, share] { shares[share] = RunShare(flags, share, &lowest_broken); });
  }
  Totals totals;
  for (uint64_t share = 0; share < flags.threads; ++share) {
    threads[share].join();
    totals.Add(shares[share]);
  }
  return totals;
}

void Report(const Flags& flags, const Totals& totals, double seconds) {
  const SimulationResult& sum = totals.sum;
  std::printf("%llu seeds from %llu in %.1f s: %.0f seeds/s on %llu threads\n",
              static_cast<unsigned long long>(flags.seeds),
              static_cast<unsigned long long>(flags.first), seconds,
              static_cast<double>(flags.seeds) / seconds,
              static_cast<unsigned long long>(flags.threads));
  const auto count = [](const char* what, int64_t n) {
    std::printf("  %-16s %12lld\n", what, static_cast<long long>(n));
  };
  count("requests", sum.requests);
  count("  refused", sum.refused);
  count("  cancelled", sum.cancelled);
  count("steps", sum.steps);
  count("  failed", sum.failed_steps);
  count("rows", sum.rows);
  count("cached tokens", sum.prefix_hits);
  count("preemptions", sum.preemptions);
  count("drafted tokens", sum.draft_tokens);
  count("  accepted", sum.accepted_tokens);
  count("hits of units", sum.unit_hits);
  count("loads of units", sum.loads);
  std::printf("  nearest to I8's bound: %lld plans of %lld\n",
              static_cast<long long>(sum.slowest.plans),
              static_cast<long long>(sum.slowest.allowed));
  std::printf("  trace %016llx\n", static_cast<unsigned long long>(sum.trace));
}

int ReplayInWords(const Flags& flags) {
  const World world = DrawWorld(flags.verbose);
  std::cout << ToString(world) << "\n";
  return Simulate(world, flags.options(&std::cout)).broken.empty() ? 0 : 1;
}

int ReportBroken(const Flags& flags, const Totals& totals) {
  const unsigned long long seed = totals.broken_seed;
  std::printf("seed %llu: %s\nreplay with: scheduler_sim --verbose %llu\nshrunk to:\n", seed,
              totals.broken.c_str(), seed);
  std::fflush(stdout);
  const World small = Shrink(DrawWorld(totals.broken_seed), flags.options());
  std::cout << ToString(small) << "\n";
  Simulate(small, flags.options(&std::cout));
  return 1;
}

bool ParseFlags(int argc, char** argv, Flags* flags) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const uint64_t value = std::strtoull(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--seeds") == 0) {
      flags->seeds = value;
    } else if (std::strcmp(argv[i], "--first") == 0) {
      flags->first = value;
    } else if (std::strcmp(argv[i], "--threads") == 0) {
      flags->threads = std::max<uint64_t>(value, 1);
    } else if (std::strcmp(argv[i], "--verbose") == 0) {
      flags->verbose = value;
    } else if (std::strcmp(argv[i], "--check_invariants") == 0) {
      flags->check_invariants = value != 0;
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

int Main(int argc, char** argv) {
  Flags flags;
  if (!ParseFlags(argc, argv, &flags)) {
    std::fprintf(stderr,
                 "usage: scheduler_sim [--seeds N] [--first SEED] [--threads N] [--verbose SEED] "
                 "[--check_invariants 0]\n");
    return 2;
  }
  std::signal(SIGABRT, OnCrash);
  std::signal(SIGSEGV, OnCrash);
  if (flags.verbose != kNone) return ReplayInWords(flags);
  const auto start = std::chrono::steady_clock::now();
  const Totals totals = RunAll(flags);
  if (totals.broken_seed != kNone) return ReportBroken(flags, totals);
  Report(flags, totals,
         std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return 0;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) { return pregate::Main(argc, argv); }
