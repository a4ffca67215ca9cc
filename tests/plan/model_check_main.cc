// scheduler_model_check: a world of three requests and three blocks, exhaustively. Every order of
// arrival, every step at which each request comes, and every two things that can go wrong: a
// request leaves before a step or between Plan and Commit, or a step fails. All of it, under every
// policy, runs through the simulator, and all must be sound.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/plan/simulation.h"

namespace pregate {
namespace {

constexpr int32_t kRequests = 3;
constexpr int32_t kLastArrival = 4;  // steps at which a request may come: 0 to this
constexpr int32_t kDefaultDepth = 10;
constexpr int32_t kThreads = 2;

// Two of them begin with the same block; each needs two of the three blocks in the end.
std::vector<Request> Requests() {
  std::vector<Request> requests(kRequests);
  for (int32_t i = 0; i < kRequests; ++i) requests[i].id = static_cast<SequenceId>(i + 1);
  requests[0].prompt = {0, 1};
  requests[0].max_tokens = 3;
  requests[0].priority = 1;
  requests[1].prompt = {0, 1, 0};
  requests[1].max_tokens = 3;
  requests[1].stop_ids = {1};
  requests[2].prompt = {1};
  requests[2].max_tokens = 4;
  requests[2].min_tokens = 3;
  requests[2].stop_ids = {0};
  return requests;
}

std::vector<World> EmptyWorlds() {
  std::vector<World> worlds;
  for (const bool caching : {true, false}) {
    for (const SchedulingPolicy policy : {SchedulingPolicy::kFcfs, SchedulingPolicy::kPriority}) {
      for (const int32_t max_preemptions : {0, 1}) {
        World world;
        world.hash_bits = caching && max_preemptions == 0 ? 0 : 64;
        world.config.num_blocks = 3;
        world.config.block_tokens = 2;
        world.config.max_num_seqs = 3;
        world.config.max_num_batched_tokens = 3;
        world.config.max_num_prefill_tokens = max_preemptions == 0 ? 3 : 1;
        world.config.max_logits = 3;
        world.config.max_model_len = 7;
        world.config.enable_prefix_caching = caching;
        world.config.policy = policy;
        world.config.max_preemptions = max_preemptions;
        world.config.wait_steps_max = 2;
        worlds.push_back(world);
      }
    }
  }
  return worlds;
}

// All ways in which the requests come: the first at once, the others then or later.
void ForEachArrival(const World& empty, const std::function<void(const World&)>& visit) {
  std::vector<Request> requests = Requests();
  std::array<int32_t, kRequests> order = {0, 1, 2};
  do {
    for (int32_t second = 0; second <= kLastArrival; ++second) {
      for (int32_t third = second; third <= kLastArrival; ++third) {
        World world = empty;
        world.arrivals = {
            {0, requests[order[0]]}, {second, requests[order[1]]}, {third, requests[order[2]]}};
        visit(world);
      }
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

// All sets of up to `more` things that go wrong, in the first `depth` steps, after those that
// `world` has, each not before the one before it; nobody leaves before he has come.
void ForEachFaults(World* world, int32_t depth, int32_t more,
                   const std::function<void(const World&)>& visit) {
  visit(*world);
  if (more == 0) return;
  const int32_t from = world->faults.empty() ? 0 : world->faults.back().step;
  const auto with = [&](const Fault& fault) {
    world->faults.push_back(fault);
    ForEachFaults(world, depth, more - 1, visit);
    world->faults.pop_back();
  };
  for (int32_t step = from; step < depth; ++step) {
    with({FaultKind::kFailStep, step});
    for (const Arrival& arrival : world->arrivals) {
      if (arrival.step > step) continue;
      with({FaultKind::kCancel, step, arrival.request.id});
      with({FaultKind::kCancelInStep, step, arrival.request.id});
    }
  }
}

struct Count {
  int64_t worlds = 0;
  int64_t steps = 0;
  int64_t preemptions = 0;
  int64_t prefix_hits = 0;
  int64_t cancelled = 0;
};

class ModelCheck {
 public:
  explicit ModelCheck(int32_t depth) : depth_(depth) {}

  // Runs all worlds; false when one is broken, which is printed.
  bool Run() {
    std::vector<World> starts;
    for (const World& empty : EmptyWorlds()) {
      ForEachArrival(empty, [&](const World& world) { starts.push_back(world); });
    }
    std::atomic<size_t> next = 0;
    std::vector<std::thread> threads;
    for (int32_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        while (!broken_) {
          const size_t index = next++;
          if (index >= starts.size()) break;
          Explore(starts[index]);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::printf("%lld worlds, %lld steps, %lld preemptions, %lld cached tokens, %lld cancelled\n",
                static_cast<long long>(total_.worlds), static_cast<long long>(total_.steps),
                static_cast<long long>(total_.preemptions),
                static_cast<long long>(total_.prefix_hits),
                static_cast<long long>(total_.cancelled));
    return !broken_;
  }

 private:
  void Explore(World world) {
    Count count;
    ForEachFaults(&world, depth_, /*more=*/2, [&](const World& w) {
      if (broken_) return;
      const SimulationResult run = Simulate(w);
      ++count.worlds;
      count.steps += run.steps;
      count.preemptions += run.preemptions;
      count.prefix_hits += run.prefix_hits;
      count.cancelled += run.cancelled;
      if (!run.broken.empty()) Report(w);
    });
    const std::lock_guard lock(mutex_);
    total_.worlds += count.worlds;
    total_.steps += count.steps;
    total_.preemptions += count.preemptions;
    total_.prefix_hits += count.prefix_hits;
    total_.cancelled += count.cancelled;
  }

  void Report(const World& world) {
    const std::lock_guard lock(mutex_);
    if (broken_.exchange(true)) return;
    const World small = Shrink(world);
    std::cout << ToString(small) << "\n";
    Simulate(small, {.log = &std::cout});
  }

  const int32_t depth_;
  std::mutex mutex_;
  std::atomic<bool> broken_ = false;
  Count total_;
};

// The depth may be given: how many steps things can go wrong at.
int Main(int argc, char** argv) {
  ModelCheck check(argc > 1 ? std::atoi(argv[1]) : kDefaultDepth);
  return check.Run() ? 0 : 1;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) { return pregate::Main(argc, argv); }
