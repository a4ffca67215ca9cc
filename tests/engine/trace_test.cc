// A recorded trace, replayed without a model, is the server's own run: the same hits, loads and
// experts, step by step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/engine_setup.h"
#include "engine/model/read_me_overlay.h"
#include "engine/simulation.h"
#include "engine/trace_config.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/read_me_overlay.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr int kRequests = 64;
constexpr int64_t kTiedMemory = 160000;  // one expert and a bit more
constexpr int64_t kTwoExperts = 2 * 2 * 3 * 64 * 64 * sizeof(float) + 4096;

// Prompts, some with a prefix in common, some scored; answers of one or three.
std::vector<GenerationRequest> RandomRequests(int vocab, uint32_t seed) {
  std::mt19937 random(seed);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  std::vector<int32_t> shared(60);
  for (int32_t& id : shared) id = draw(0, vocab - 1);
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < kRequests; ++i) {
    std::vector<int32_t> prompt(shared.begin(), shared.begin() + (draw(0, 1) == 0 ? 0 : 60));
    for (int k = draw(1, 80); k > 0; --k) prompt.push_back(draw(0, vocab - 1));
    GenerationRequest request = GreedyRequest(prompt, draw(1, 48));
    request.sampling.resize(draw(0, 7) == 0 ? 3 : 1);
    for (SamplingParams& sampling : request.sampling) {
      sampling.temperature = static_cast<float>(draw(0, 1));  // what is likeliest repeats itself
      sampling.seed = random();
    }
    if (draw(0, 7) == 0) request.prompt_logprobs = 1;
    if (draw(0, 3) == 0) request.stop_ids = {draw(0, vocab - 1), draw(0, vocab - 1)};
    request.cache_salt = static_cast<uint64_t>(draw(0, 1)) * 12345;
    requests.push_back(std::move(request));
  }
  return requests;
}

// Asks everything, in bursts, and takes back every fifth request in the middle of its answer.
void AskAll(Engine& engine, const std::vector<GenerationRequest>& requests) {
  std::deque<Collector> collectors;
  std::vector<uint64_t> ids;
  for (const GenerationRequest& request : requests) {
    Collector& collector = collectors.emplace_back(static_cast<int>(request.sampling.size()));
    const absl::StatusOr<uint64_t> id = engine.Submit(request, collector.Callback());
    ASSERT_TRUE(id.ok()) << id.status();
    ids.push_back(*id);
    if (ids.size() % 16 == 0) absl::SleepFor(absl::Milliseconds(20));
    if (ids.size() % 5 == 0) engine.Cancel(ids[ids.size() - 4]);  // perhaps before its first step
  }
  for (size_t i = 0; i < ids.size(); i += 5) {
    collectors[i].WaitForTokens(2);
    engine.Cancel(ids[i]);
  }
  for (Collector& collector : collectors) EXPECT_TRUE(collector.Wait(absl::Minutes(2)));
}

struct Recorded {
  std::string path, trace;
  EngineStats stats;
  int64_t steps = 0;
  int64_t expert_steps = 0;  // sum over the steps of the experts they needed
};

struct Setting {
  const char* name;
  std::string batching;
  int32_t step_sequences = 0;
  int64_t expert_memory = kTwoExperts;
  std::string eviction = "planned";
  int32_t pool_tokens = 0;  // 0: room for everybody
  bool router = true;
  int32_t draft_tokens = 0;
  int32_t router_lookahead_tokens = -1;
  std::string storage = "copies";
};

Recorded Record(const Setting& setting) {
  const RandomModelSpec spec;
  std::unique_ptr<ModelFile> file = MakeRandomModel(spec);
  ReadMeFolder folder("trace");
  if (setting.router) {
    WriteReadMe(spec, folder);
    auto laid = LayReadMeOver(std::move(file), folder.Write());
    EXPECT_TRUE(laid.ok()) << laid.status();
    file = *std::move(laid);
  }
  EngineOptions options;
  options.max_num_batched_tokens = 64;
  options.max_num_seqs = 16;
  options.max_num_step_seqs = setting.step_sequences;
  options.expert_batching = setting.batching;
  options.expert_batch_max_wait_steps = 20;
  options.expert_storage = setting.storage;
  options.expert_cache_memory = setting.expert_memory;
  options.expert_eviction = setting.eviction;
  options.expert_cache_dir = ::testing::TempDir();
  options.draft_tokens = setting.draft_tokens;
  options.router_lookahead_tokens = setting.router_lookahead_tokens;
  options.max_num_queued_tokens = 1 << 20;
  options.max_model_len = 256;
  options.kv_cache_memory =
      setting.pool_tokens / 16 * KvStorage::BlockBytes(file->config(), DType::kF16, 16);
  options.record_trace = absl::StrCat(::testing::TempDir(), "trace_test.jsonl");
  absl::StatusOr<EngineSetup> setup = SetUpEngine(std::move(file), options, nullptr);
  EXPECT_TRUE(setup.ok()) << setup.status();
  Recorded recorded;
  {
    std::unique_ptr<Engine> engine = MakeEngine(*std::move(setup));
    engine->SetStepObserver([&](const StepStats& step) {
      ++recorded.steps;
      for (const int32_t rows : step.expert_rows) recorded.expert_steps += rows > 0;
    });
    AskAll(*engine, RandomRequests(spec.vocab_size, 11));
    EXPECT_TRUE(engine->WaitUntilIdle(absl::Seconds(10)));
    recorded.stats = engine->stats();
  }
  recorded.path = options.record_trace;
  std::ifstream trace(recorded.path, std::ios::binary);
  recorded.trace = {std::istreambuf_iterator<char>(trace), {}};
  return recorded;
}

void ExpectSameCounts(const Setting& setting, const Recorded& recorded) {
  Workload workload;
  ASSERT_EQ(ReadWorkload(recorded.trace, &workload), "") << setting.name;
  const auto simulation = RunSimulation({.trace = recorded.path, .replay = true}, nullptr);
  ASSERT_TRUE(simulation.ok()) << simulation.status();
  ASSERT_EQ(simulation->rows.size(), 1u);
  const SimulateReport& replayed = simulation->rows[0].report;
  EXPECT_EQ(replayed.broken, "") << setting.name;
  EXPECT_EQ(replayed.steps, recorded.steps) << setting.name;
  EXPECT_EQ(replayed.expert_steps, recorded.expert_steps) << setting.name;
  EXPECT_EQ(replayed.preemptions, recorded.stats.preemptions) << setting.name;
  EXPECT_EQ(replayed.draft_tokens, recorded.stats.draft_tokens) << setting.name;
  EXPECT_EQ(replayed.accepted_tokens, recorded.stats.accepted_tokens) << setting.name;
  if (setting.draft_tokens > 0) {
    EXPECT_GT(replayed.accepted_tokens, 5) << setting.name;
    EXPECT_GT(replayed.draft_tokens, replayed.accepted_tokens + 5) << setting.name;
  }
  const ExpertCacheStats& cache = replayed.experts.cache;
  const ExpertCounters& server = recorded.stats.experts;
  EXPECT_EQ(cache.hits, server.hits) << setting.name;
  EXPECT_EQ(cache.late, server.late) << setting.name;
  EXPECT_EQ(cache.misses, server.misses) << setting.name;
  EXPECT_EQ(cache.loads, server.loads) << setting.name;
  EXPECT_EQ(cache.load_bytes, server.load_bytes) << setting.name;
  EXPECT_EQ(cache.wasted_bytes, server.wasted_bytes) << setting.name;
  EXPECT_EQ(cache.lookahead, server.lookahead) << setting.name;
  if (setting.expert_memory > 0) {
    EXPECT_GT(server.hits + server.late, 0) << setting.name;
    EXPECT_GT(server.misses, 0) << setting.name;
    EXPECT_EQ(replayed.shadow_hit_ratio, server.shadow_hit_ratio) << setting.name;
  }
  EXPECT_GT(std::count_if(workload.cancels.begin(), workload.cancels.end(),
                          [](const WorkloadCancel& cancel) { return cancel.step > 0; }),
            3)
      << setting.name;
  if (setting.pool_tokens > 0) {
    EXPECT_GT(replayed.preemptions, 0) << setting.name;
  }
}

TEST(Trace, AReplayCountsWhatTheServerCounted) {
  for (const Setting& setting : std::vector<Setting>{
           {"off", "off"},
           {"on", "on"},
           {"on, cap", "on", 4},
           {"paper, cap", "paper", 4},
           {"auto, cap", "auto", 5},
           {"decode first, lru", "decode-first", 0, kTwoExperts, "lru"},
           {"prefill first, random", "prefill-first", 6, kTwoExperts, "random"},
           {"on, preemption", "on", 6, kTwoExperts, "planned", 240},
           {"auto, all resident", "auto", 4, 0},
           {"no router", "auto", 0, 0, "planned", 240, false},
           {"off, nothing ahead", "off", 4, kTwoExperts, "lru", 0, true, 0, 0},
           {"on, all ahead", "on", 4, kTwoExperts, "planned", 0, true, 0, 4096},
           {"drafts, off", "off", 0, kTwoExperts, "planned", 0, true, 4},
           {"drafts, on, cap", "on", 4, kTwoExperts, "planned", 0, true, 3},
           {"drafts, all resident", "auto", 5, 0, "planned", 0, true, 6},
           {"drafts, preemption", "on", 0, 0, "planned", 240, true, 4},
           {"drafts, no router", "auto", 0, 0, "planned", 0, false, 4},
           {"tied, on, cap", "on", 4, kTiedMemory, "planned", 0, true, 0, -1, "tied"},
           {"tied, off, lru", "off", 0, kTiedMemory, "lru", 0, true, 0, -1, "tied"},
           {"tied, auto, drafts", "auto", 5, kTiedMemory, "planned", 0, true, 4, -1, "tied"}}) {
    ExpectSameCounts(setting, Record(setting));
  }
}

// What the server might have done instead, at the costs that its steps tell.
TEST(Trace, EveryPolicyRunsOnWhatOneRecorded) {
  const Recorded recorded = Record({"off", "off"});
  const auto simulation =
      RunSimulation({.trace = recorded.path, .experts_resident = {2, 3}}, nullptr);
  ASSERT_TRUE(simulation.ok()) << simulation.status();
  EXPECT_GT(simulation->machine.fixed + simulation->machine.per_row, 0);
  EXPECT_GT(simulation->machine.load_per_byte, 0);
  ASSERT_EQ(simulation->rows.size(), 13u);
  EXPECT_TRUE(simulation->rows[0].recorded);
  for (size_t i = 1; i < simulation->rows.size(); ++i) {
    const SimulationRow& row = simulation->rows[i];
    EXPECT_EQ(row.report.requests, simulation->requests - simulation->requests / 10) << row.policy;
    EXPECT_GT(row.report.load_bytes, 0) << row.policy;
  }
}

TEST(Trace, WhatWasSaidIsNotInIt) {
  const Recorded recorded = Record({"on", "on"});
  Workload workload;
  ASSERT_EQ(ReadWorkload(recorded.trace, &workload), "");
  // Ids are counted up as they come: those of the first prompt are 0 and on.
  const WorkloadRequest& first = workload.requests[0];
  ASSERT_GE(first.tokens.size(), static_cast<size_t>(first.prompt));
  EXPECT_EQ(first.tokens[0], 0);
  for (int32_t i = 0; i < first.prompt; ++i) EXPECT_LE(first.tokens[static_cast<size_t>(i)], i);
  for (const WorkloadRequest& request : workload.requests) EXPECT_LE(request.salt, 1u);
}

TEST(Trace, AFileThatCannotBeWrittenIsNamed) {
  EngineOptions options;
  options.record_trace = "/nonexistent/trace.jsonl";
  const auto setup = SetUpEngine(MakeRandomModel(RandomModelSpec()), options, nullptr);
  EXPECT_EQ(setup.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(setup.status().message()),
              AllOf(HasSubstr("record-trace: "), HasSubstr("/nonexistent/trace.jsonl")));
}

TEST(Trace, ADamagedServerLineIsNamed) {
  SchedulerConfig config;
  config.num_blocks = 40;
  config.experts.num_experts = 3;
  config.experts.units = {{1, 100}, {2, 200}, {4, 300}, {7, 50}};
  config.experts.cache_bytes = 400;
  config.experts.policy = ExpertPolicy::kPaper;
  config.experts.eviction = ExpertEviction::kLfu;
  config.experts.max_wait_gaps = 2.5;
  const std::string sound = WorkloadHeader(3) + ToLine(config);
  const auto read = ReadServerConfig(sound, 3);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(ToLine(**read), ToLine(config));
  const auto error = [&](const std::string& from, const std::string& to) {
    std::string damaged = sound;
    const size_t at = damaged.find(from);
    if (at == std::string::npos) return "no such text: " + from;
    damaged.replace(at, from.size(), to);
    return std::string(ReadServerConfig(damaged, 3).status().message());
  };
  EXPECT_EQ(error("\"num_blocks\":40", "\"num_blocks\":-1"),
            "line 2: num_blocks: must be in [1, 16777216]; got -1");
  EXPECT_THAT(error("\"max_num_seqs\":64", "\"max_num_seqs\":1.5"), HasSubstr("max_num_seqs"));
  EXPECT_THAT(error("\"max_num_seqs\":64", "\"seqs\":64"), HasSubstr("max_num_seqs"));
  EXPECT_THAT(error("\"paper\"", "\"luck\""), HasSubstr("expert-batching"));
  EXPECT_THAT(error("\"lfu\"", "7"), HasSubstr("expert_eviction"));
  EXPECT_THAT(error("0 1 2 012", "0 1 3 012"), HasSubstr("unit_owners"));
  EXPECT_THAT(error("[100,200,300,50]", "[100,200,300]"), HasSubstr("unit_bytes"));
  EXPECT_THAT(error("[100,200,300,50]", "[100,200,300,-50]"), HasSubstr("unit_bytes"));
  EXPECT_THAT(error("\"cache_bytes\":400", "\"cache_bytes\":349"), HasSubstr("cache_bytes"));
  EXPECT_FALSE(ReadServerConfig(WorkloadHeader(3), 3)->has_value());
  // Traces that are older than these fields lack them.
  std::string old = sound;
  for (const std::string field : {",\"max_draft_tokens\":0", ",\"router_lookahead_tokens\":-1"}) {
    ASSERT_NE(old.find(field), std::string::npos) << field;
    old.erase(old.find(field), field.size());
  }
  const auto read_old = ReadServerConfig(old, 3);
  ASSERT_TRUE(read_old.ok()) << read_old.status();
  EXPECT_EQ(ToLine(**read_old), sound.substr(sound.find('\n') + 1));
}

}  // namespace
}  // namespace pregate
