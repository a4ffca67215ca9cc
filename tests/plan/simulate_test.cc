#include "engine/plan/simulate.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <tuple>

#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

constexpr int64_t kExpertBytes = 1000;

SimulateOptions Options(ExpertPolicy policy, int32_t fit) {
  SimulateOptions options;
  SchedulerConfig& config = options.scheduler;
  config.max_num_seqs = 24;
  config.max_num_step_seqs = 8;
  config.max_logits = 24;
  config.num_blocks = 24 * 64;
  config.max_model_len = 2048;
  config.experts.num_experts = 7;
  config.experts.policy = policy;
  if (fit < 7) config.experts.cache_bytes = fit * kExpertBytes;
  for (int32_t e = 0; e < 7; ++e)
    config.experts.units.push_back({ExpertMask{1} << e, kExpertBytes});
  options.machine = {.fixed = 0.03, .per_row = 3e-5, .per_byte = 2.5e-6, .load_per_byte = 4e-5};
  return options;
}

// One request alone, by hand: a prompt in one step, then a token a step.
TEST(SimulateTest, OneRequestTakesItsSteps) {
  Workload workload;
  workload.num_experts = 7;
  workload.requests.push_back(
      {.id = 1, .arrival = 2, .prompt = 3, .experts = {0, 0, 1, 1, 1}, .tokens = {}});
  const SimulateReport report = SimulateWorkload(workload, Options(ExpertPolicy::kFcfs, 7));
  EXPECT_EQ(report.broken, "");
  EXPECT_EQ(report.steps, 2);
  EXPECT_EQ(report.tokens, 2);
  const double first = 0.03 + 3 * 3e-5 + 2 * 2.5e-3, second = 0.03 + 3e-5 + 2.5e-3;
  EXPECT_NEAR(report.first_token.mean, first, 1e-9);
  EXPECT_NEAR(report.end_to_end.mean, first + second, 1e-9);
  EXPECT_NEAR(report.longest_gap.most, second, 1e-9);
  EXPECT_EQ(report.expert_steps, 3);
  EXPECT_EQ(report.stall_seconds, 0);
}

// The same with loads: 40 ms each, spread over 32 layers, beside 35 ms of compute.
TEST(SimulateTest, LoadsThatAreNeededStallAStep) {
  Workload workload;
  workload.num_experts = 7;
  workload.requests.push_back({.id = 1, .prompt = 3, .experts = {0, 0, 1, 1, 1}, .tokens = {}});
  SimulateOptions options = Options(ExpertPolicy::kFcfs, 2);
  const double compute = 0.03 + 3 * 3e-5 + 2 * 2.5e-3;
  SimulateReport report = SimulateWorkload(workload, options);
  EXPECT_NEAR(report.stall_seconds, 0.08 + 0.08 / 32 - compute, 1e-9);
  EXPECT_EQ(report.load_bytes, 2 * kExpertBytes);
  EXPECT_DOUBLE_EQ(report.hit_ratio, 1.0 / 3);
  options.machine.pipelined = false;
  report = SimulateWorkload(workload, options);
  EXPECT_NEAR(report.stall_seconds, 0.08, 1e-9);
}

TEST(SimulateTest, EveryPolicyServesEverybody) {
  const Workload workload = DrawWorkload({.requests = 150, .rate = 3});
  int64_t tokens = 0;
  for (const WorkloadRequest& request : workload.requests) tokens += request.answer();
  for (const ExpertPolicy policy :
       {ExpertPolicy::kAuto, ExpertPolicy::kFcfs, ExpertPolicy::kDecodeFirst,
        ExpertPolicy::kPrefillFirst, ExpertPolicy::kPaper, ExpertPolicy::kPlanned}) {
    for (const int32_t fit : {2, 7}) {
      const SimulateReport report = SimulateWorkload(workload, Options(policy, fit));
      EXPECT_EQ(report.broken, "");
      EXPECT_EQ(report.requests, 150);
      EXPECT_EQ(report.tokens, tokens);
      EXPECT_EQ(report.wasted_bytes, 0);
    }
  }
}

// What the model of cost is for: with experts that do not fit, choosing by cost serves more.
TEST(SimulateTest, ByCostBeatsInOrderWhereExpertsDoNotFit) {
  const Workload workload = DrawWorkload({.requests = 200});
  const auto run = [&](ExpertPolicy policy) {
    SimulateOptions options = Options(policy, 3);
    options.clients = 24;
    options.warm_up_requests = 24;
    return SimulateWorkload(workload, options);
  };
  const SimulateReport in_order = run(ExpertPolicy::kFcfs), by_cost = run(ExpertPolicy::kAuto);
  EXPECT_EQ(by_cost.experts.batching, ExpertBatching::kOn);
  EXPECT_GT(by_cost.tokens_per_second, 1.2 * in_order.tokens_per_second);
  EXPECT_GT(by_cost.hit_ratio, in_order.hit_ratio);
}

TEST(SimulateTest, AutoStaysOffWhereThereIsNothingToGain) {
  SimulateOptions options = Options(ExpertPolicy::kAuto, 7);
  options.scheduler.max_num_step_seqs = 0;
  const Workload workload = DrawWorkload({.requests = 100, .rate = 1});
  const SimulateReport report = SimulateWorkload(workload, options);
  EXPECT_EQ(report.experts.batching, ExpertBatching::kNothingToGain);
  EXPECT_STREQ(Explain(report.experts.batching),
               "expert-batching: off: all experts resident and no step cap binds");
  options.scheduler.experts.policy = ExpertPolicy::kFcfs;
  EXPECT_EQ(SimulateWorkload(workload, options).end_to_end.mean, report.end_to_end.mean);
}

// A machine on which every row costs, and prompts that wait for their few rows: no cap binds.
TEST(SimulateTest, PromptsThatWaitForTheirRowsAreNoCap) {
  SimulateOptions options = Options(ExpertPolicy::kAuto, 7);
  options.scheduler.max_num_step_seqs = 0;
  options.machine = {.fixed = 0.01, .per_row = 2e-3, .per_byte = 9.5e-6};
  options.clients = 24;
  const Workload workload = DrawWorkload({.requests = 200, .prompt_mean = 300, .answer_mean = 30});
  const SimulateReport report = SimulateWorkload(workload, options);
  options.scheduler.experts.policy = ExpertPolicy::kFcfs;
  EXPECT_EQ(SimulateWorkload(workload, options).end_to_end.mean, report.end_to_end.mean);
  EXPECT_EQ(report.experts.batching, ExpertBatching::kNothingToGain);
}

// Where ordering by expert pays, and where it does not: machines whose step of 32 sequences is
// bound by a constant, by reading experts that are copies or tied, or by rows (ms: a step, a row,
// an expert's worth of weights).
struct Machine {
  const char* name;
  double fixed, row, expert;
  bool tied;
};
constexpr Machine kMachines[] = {{"L", 31, 0.03, 2.5, false},
                                 {"W", 10, 0.04, 9.5, false},
                                 {"T", 10, 0.04, 9.5, true},
                                 {"C", 10, 2, 9.5, false}};

class UnderLoad {
 public:
  UnderLoad(const Machine& machine, int32_t cap)
      : machine_(machine), options_(Options(ExpertPolicy::kFcfs, 7)) {
    options_.scheduler.max_num_seqs = options_.scheduler.max_logits = 48;
    options_.scheduler.max_num_step_seqs = cap;
    options_.scheduler.max_num_batched_tokens = 2048;
    options_.scheduler.max_num_prefill_tokens = 512;
    options_.scheduler.max_num_queued_reqs = kRequests;
    options_.scheduler.max_num_queued_tokens = 1 << 30;
    options_.scheduler.num_blocks = 48 * 128;
    if (machine.tied) options_.scheduler.experts.units = TiedUnits(kExpertBytes);
    options_.machine = {.fixed = machine.fixed * 1e-3,
                        .per_row = machine.row * 1e-3,
                        .per_byte = machine.expert * 1e-3 / kExpertBytes};
    options_.warm_up_requests = kRequests / 10;
    double tokens = 0;
    for (const WorkloadRequest& request : Requests(0).requests) {
      tokens += request.answer();
    }
    capacity_ = Run(ExpertPolicy::kFcfs, 0).tokens_per_second * kRequests / tokens;
  }

  // At a share of the capacity; 0: in a closed loop. Who asks again gets the same report: nothing
  // of it is left to chance.
  const SimulateReport& Run(ExpertPolicy policy, double load) {
    static auto* const known = new std::map<Point, SimulateReport>;
    const Point point(machine_.name, options_.scheduler.max_num_step_seqs, policy, load);
    const auto found = known->find(point);
    if (found != known->end()) return found->second;
    return known->emplace(point, Simulate(policy, load)).first->second;
  }

 private:
  using Point = std::tuple<std::string, int32_t, ExpertPolicy, double>;

  SimulateReport Simulate(ExpertPolicy policy, double load) {
    options_.scheduler.experts.policy = policy;
    options_.clients = load > 0 ? 0 : options_.scheduler.max_num_seqs;
    const SimulateReport report =
        SimulateWorkload(DrawWorkload({.requests = kRequests, .rate = load * capacity_}), options_);
    EXPECT_EQ(report.broken, "");
    EXPECT_EQ(report.refused, 0);
    return report;
  }

  static constexpr int32_t kRequests = 3000;
  static Workload Requests(double rate) {
    return DrawWorkload(
        {.requests = kRequests, .rate = rate, .prompt_mean = 35, .answer_mean = 100});
  }
  const Machine& machine_;
  SimulateOptions options_;
  double capacity_ = 0;
};

TEST(SimulateTest, AutoIsAtMostTwoPercentWorseThanInOrderAtAnyLoad) {
  for (const Machine& machine : kMachines) {
    for (const int32_t cap : {16, 0}) {
      UnderLoad server(machine, cap);
      const std::vector<double> loads =
          cap > 0 ? std::vector<double>{0.5, 0.7, 0.9, 0.98} : std::vector<double>{0.98};
      for (const double load : loads) {
        SCOPED_TRACE(testing::Message() << machine.name << ", cap " << cap << ", load " << load);
        const SimulateReport& in_order = server.Run(ExpertPolicy::kFcfs, load);
        const SimulateReport& chosen = server.Run(ExpertPolicy::kAuto, load);
        EXPECT_GE(chosen.tokens_per_second, 0.98 * in_order.tokens_per_second);
        EXPECT_LE(chosen.end_to_end.mean, 1.02 * in_order.end_to_end.mean);
        EXPECT_LE(chosen.end_to_end.p95, 1.02 * in_order.end_to_end.p95);
        EXPECT_LE(chosen.end_to_end.p99, 1.02 * in_order.end_to_end.p99);
      }
    }
  }
}

// The figures of the Read-ME paper (section 5), which does not tell its load.
TEST(SimulateTest, AutoGainsUnderACapThatBindsWhatThePaperGains) {
  for (const Machine& machine : kMachines) {
    SCOPED_TRACE(machine.name);
    UnderLoad server(machine, 16);
    const SimulateReport& chosen = server.Run(ExpertPolicy::kAuto, 0.98);
    if (machine.tied) {
      EXPECT_NE(chosen.experts.batching, ExpertBatching::kOn);
      continue;
    }
    EXPECT_EQ(chosen.experts.batching, ExpertBatching::kOn);
    for (const ExpertPolicy other : {ExpertPolicy::kDecodeFirst, ExpertPolicy::kPrefillFirst}) {
      const SimulateReport& base = server.Run(other, 0.98);
      EXPECT_LE(chosen.end_to_end.mean, 0.939 * base.end_to_end.mean);
      EXPECT_LE(chosen.end_to_end.p95, 0.9 * base.end_to_end.p95);
      EXPECT_LT(chosen.distinct_experts, base.distinct_experts);
    }
  }
}

// In a closed loop most are prompts that have waited for long: what waits is no reason to stay off.
TEST(SimulateTest, AutoServesMoreInAClosedLoopUnderACap) {
  for (const Machine& machine : kMachines) {
    UnderLoad server(machine, 16);
    const double in_order = server.Run(ExpertPolicy::kFcfs, 0).tokens_per_second;
    const double chosen = server.Run(ExpertPolicy::kAuto, 0).tokens_per_second;
    EXPECT_GE(chosen, (machine.tied ? 1 : 1.1) * in_order) << machine.name;
  }
}

TEST(SimulateTest, UnionsOfTiedExpertsAreThoseMeasured) {
  constexpr double kMeasured[] = {1, 1.30, 1.46, 1.56, 1.64, 1.69, 1.73};
  const std::vector<ExpertUnit> units = TiedUnits(1'000'000);
  for (int32_t count = 1; count <= kTiedExperts; ++count) {
    const ExpertMask experts = (ExpertMask{1} << count) - 1;
    int64_t bytes = 0;
    for (const ExpertUnit& unit : units) bytes += (unit.owners & experts) != 0 ? unit.bytes : 0;
    EXPECT_NEAR(static_cast<double>(bytes) / 1e6, kMeasured[count - 1], 0.01);
  }
}

struct RunTwice {
  SimulateReport recorded, replayed;
};
RunTwice RecordAndReplay(const Workload& workload, SimulateOptions options) {
  TraceRecorder recorder(7);
  options.recorder = &recorder;
  RunTwice run;
  run.recorded = SimulateWorkload(workload, options);
  Workload trace;
  EXPECT_EQ(ReadWorkload(recorder.TakeLines(), &trace), "");
  run.replayed = ReplayWorkload(trace, options.scheduler);
  return run;
}

// A recorded run and its replay agree in every plan, hit and load: tokens with shared prefixes,
// answers that stop early, priorities, and any policy.
TEST(SimulateTest, AReplayIsTheRecordedRun) {
  int64_t preemptions = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SimRandom random(seed);
    Workload workload = DrawWorkload(
        {.seed = seed, .requests = 60, .rate = 3, .prompt_mean = 50, .answer_mean = 60});
    const std::vector<uint8_t> stem(workload.requests[0].experts.begin(),
                                    workload.requests[0].experts.begin() + 1);
    for (WorkloadRequest& request : workload.requests) {
      // Equal tokens have equal experts, as a router would have it: a prefix of one expert.
      const int32_t shared = std::min(request.prompt, 32);
      for (int32_t i = 0; i < request.size(); ++i) {
        if (i < shared) request.experts[i] = stem[0];
        request.tokens.push_back(i < shared ? i : static_cast<int32_t>(request.id) * 1000 + i);
      }
      request.priority = random.Draw(0, 2);
      if (random.OneIn(2)) request.max_tokens = request.answer() + random.Draw(0, 50);
    }
    SimulateOptions options =
        Options(static_cast<ExpertPolicy>(random.Draw(0, 5)), random.Draw(2, 7));
    options.scheduler.policy = SchedulingPolicy::kPriority;
    options.scheduler.num_blocks = 70;  // few: somebody is preempted
    const auto [recorded, replayed] = RecordAndReplay(workload, options);
    EXPECT_EQ(recorded.broken, "") << "seed " << seed;
    EXPECT_EQ(replayed.broken, "") << "seed " << seed;
    EXPECT_EQ(replayed.steps, recorded.steps);
    EXPECT_EQ(replayed.expert_steps, recorded.expert_steps);
    EXPECT_EQ(replayed.experts.cache.hits, recorded.experts.cache.hits);
    EXPECT_EQ(replayed.experts.cache.late, recorded.experts.cache.late);
    EXPECT_EQ(replayed.experts.cache.misses, recorded.experts.cache.misses);
    EXPECT_EQ(replayed.load_bytes, recorded.load_bytes);
    EXPECT_EQ(replayed.hit_ratio, recorded.hit_ratio);
    EXPECT_EQ(replayed.shadow_hit_ratio, recorded.shadow_hit_ratio);
    EXPECT_EQ(replayed.preemptions, recorded.preemptions);
    EXPECT_NEAR(replayed.end_to_end.mean, recorded.end_to_end.mean, 1.0);
    preemptions += recorded.preemptions;
  }
  EXPECT_GT(preemptions, 0);
}

// The same with guesses: texts that repeat themselves, and of which some end at a stop id that has
// been said before.
TEST(SimulateTest, AReplayGuessesAsTheRecordedRunDid) {
  int64_t right = 0, wrong = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SimRandom random(seed);
    Workload workload = DrawWorkload(
        {.seed = seed, .requests = 60, .rate = 3, .prompt_mean = 50, .answer_mean = 60});
    for (WorkloadRequest& request : workload.requests) {
      while (static_cast<int32_t>(request.tokens.size()) < request.size()) {
        const int32_t said = static_cast<int32_t>(request.tokens.size());
        const int32_t from = said > 0 && !random.OneIn(4) ? random.Draw(0, said - 1) : said;
        for (int32_t i = from; i < std::min(said, from + 6); ++i) {
          request.tokens.push_back(request.tokens[i]);
        }
        request.tokens.push_back(random.Draw(1, 40));
      }
      request.tokens.resize(request.experts.size());
      // The stop id stands in the prompt, where it would be copied from, and at the end.
      if (random.OneIn(2)) {
        request.tokens.back() = 0;
        request.tokens[static_cast<size_t>(request.prompt) / 2] = 0;
        request.stop_ids = {0};
        request.max_tokens = request.answer() + 10;
      }
    }
    SimulateOptions options =
        Options(static_cast<ExpertPolicy>(random.Draw(0, 5)), random.Draw(2, 7));
    options.scheduler.max_num_step_seqs = 0;
    options.scheduler.max_num_seqs = 4;
    options.scheduler.max_draft_tokens = random.Draw(1, 6);
    options.scheduler.num_blocks = 40;
    const auto [recorded, replayed] = RecordAndReplay(workload, options);
    EXPECT_EQ(recorded.broken, "") << "seed " << seed;
    EXPECT_EQ(replayed.broken, "") << "seed " << seed;
    EXPECT_EQ(replayed.steps, recorded.steps);
    EXPECT_EQ(replayed.expert_steps, recorded.expert_steps);
    EXPECT_EQ(replayed.experts.cache.hits, recorded.experts.cache.hits);
    EXPECT_EQ(replayed.draft_tokens, recorded.draft_tokens);
    EXPECT_EQ(replayed.accepted_tokens, recorded.accepted_tokens);
    right += recorded.accepted_tokens;
    wrong += recorded.draft_tokens - recorded.accepted_tokens;
  }
  EXPECT_GT(right, 100);
  EXPECT_GT(wrong, 100);
}

TEST(SimulateTest, AReplayWithAnotherConfigurationIsFoundOut) {
  TraceRecorder recorder(7);
  SimulateOptions options = Options(ExpertPolicy::kFcfs, 3);
  options.recorder = &recorder;
  SimulateWorkload(DrawWorkload({.requests = 40, .rate = 4}), options);
  Workload trace;
  ASSERT_EQ(ReadWorkload(recorder.TakeLines(), &trace), "");
  options.scheduler.max_num_step_seqs = 2;
  EXPECT_NE(ReplayWorkload(trace, options.scheduler).broken, "");
}

}  // namespace
}  // namespace pregate
