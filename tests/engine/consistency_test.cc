// The promise of the engine: a request's tokens depend on the request alone. 64 random requests at
// once must give what each gives alone, whatever the chunk, the cache and the memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/engine_setup.h"
#include "engine/model/read_me_overlay.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/read_me_overlay.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"
#include "tests/sample_models.h"

namespace pregate {
namespace {

constexpr int kRequests = 64;

// Greedy and seeded requests of every kind, some with a prefix in common.
std::vector<GenerationRequest> RandomRequests(int count, int vocab, int max_prompt, int max_answer,
                                              uint32_t seed) {
  std::mt19937 random(seed);
  auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  std::vector<int32_t> shared_prefix(max_prompt / 2);
  for (int32_t& id : shared_prefix) id = draw(0, vocab - 1);

  std::vector<GenerationRequest> requests;
  for (int i = 0; i < count; ++i) {
    std::vector<int32_t> prompt;
    if (draw(0, 2) == 0) {
      prompt.assign(shared_prefix.begin(), shared_prefix.begin() + draw(1, max_prompt / 2));
    }
    const int own = draw(1, max_prompt - static_cast<int>(prompt.size()));
    for (int k = 0; k < own; ++k) prompt.push_back(draw(0, vocab - 1));

    GenerationRequest request = GreedyRequest(prompt, draw(1, max_answer));
    request.sampling.resize(draw(0, 7) == 0 ? 3 : 1);
    const bool greedy = draw(0, 1) == 0;
    for (SamplingParams& sampling : request.sampling) {
      sampling.temperature = greedy ? 0.0f : 0.25f * draw(1, 6);
      sampling.seed = random();
      if (draw(0, 2) == 0) sampling.top_k = draw(1, 50);
      if (draw(0, 2) == 0) sampling.top_p = 0.5f + 0.05f * draw(0, 10);
      if (draw(0, 3) == 0) sampling.min_p = 0.02f * draw(1, 10);
      if (draw(0, 3) == 0) sampling.repetition_penalty = 1.3f;
      if (draw(0, 3) == 0) sampling.presence_penalty = 0.5f;
      if (draw(0, 3) == 0) sampling.frequency_penalty = 0.25f;
      if (draw(0, 3) == 0) sampling.logprobs = draw(0, 5);
    }
    if (draw(0, 7) == 0) request.prompt_logprobs = 1;
    if (i % 8 == 3) {
      for (SamplingParams& sampling : request.sampling) {
        sampling.logprob_token_ids = {vocab - 1, 0, i};
      }
    }
    if (i % 16 == 5) {  // the prompt alone is scored
      request.prompt_logprobs = 2;
      request.max_tokens = 0;
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

struct Setting {
  const char* name;
  int32_t chunk;      // max_num_batched_tokens
  int32_t sequences;  // max_num_seqs
  bool prefix_caching;
  int32_t pool_tokens;  // 0: room for everybody; else small enough to force preemption
  std::string kv_cache_dtype;
  std::string expert_batching = "auto";
  int32_t step_sequences = 0;  // max_num_step_seqs
  int64_t expert_memory = 0;   // bytes; 0: all experts stay
  std::string expert_eviction = "planned";
  int32_t draft_tokens = 0;
  int64_t expert_host_memory = 0;
  int32_t router_lookahead_tokens = -1;
};

// Runs all requests at once and returns answers[request][n].
std::vector<std::vector<Answer>> AskAll(Engine& engine,
                                        const std::vector<GenerationRequest>& requests) {
  std::deque<Collector> collectors;
  for (const GenerationRequest& request : requests) {
    Collector& collector = collectors.emplace_back(static_cast<int>(request.sampling.size()));
    const absl::StatusOr<uint64_t> id = engine.Submit(request, collector.Callback());
    if (!id.ok()) {
      ADD_FAILURE() << id.status();
      return {};
    }
  }
  std::vector<std::vector<Answer>> answers;
  for (Collector& collector : collectors) {
    EXPECT_TRUE(collector.Wait(absl::Minutes(5)));
    answers.push_back(collector.answers());
  }
  return answers;
}

// Of each position the chosen, the likeliest and the named.
void ExpectSameLogprobs(const std::vector<PositionLogprobs>& alone,
                        const std::vector<PositionLogprobs>& together, const std::string& what) {
  ASSERT_EQ(alone.size(), together.size()) << what;
  const auto flat = [](const PositionLogprobs& position) {
    std::vector<std::pair<int32_t, float>> all = {
        {position.chosen.token_id, position.chosen.logprob}};
    for (const TokenLogprob& token : position.top) all.emplace_back(token.token_id, token.logprob);
    for (const TokenLogprob& token : position.wanted) {
      all.emplace_back(token.token_id, token.logprob);
    }
    return all;
  };
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(flat(alone[i]), flat(together[i])) << what << " position " << i;
  }
}

void ExpectSame(const Answer& alone, const Answer& together, const std::string& what) {
  EXPECT_EQ(alone.tokens, together.tokens) << what;
  EXPECT_EQ(alone.finish, together.finish) << what;
  EXPECT_EQ(together.finishes, 1) << what;
  EXPECT_EQ(together.after_finish, 0) << what;
  ExpectSameLogprobs(alone.logprobs, together.logprobs, what);
  ExpectSameLogprobs(alone.prompt_logprobs, together.prompt_logprobs, what + ", prompt");
}

std::unique_ptr<ModelFile> ReadMeModel(const RandomModelSpec& spec, const std::string& folder) {
  auto file = LayReadMeOver(MakeRandomModel(spec), folder);
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

// `make_file` opens the model anew for each engine.
template <typename MakeFile>
void CheckConsistency(MakeFile make_file, const std::vector<GenerationRequest>& requests,
                      const std::vector<Setting>& settings,
                      const std::string& expert_storage = "auto", const std::string& device = "cpu",
                      int32_t ranks = 1) {
  auto make_engine = [&](const Setting& setting) {
    std::unique_ptr<ModelFile> file = make_file();
    EngineOptions options;
    options.max_num_batched_tokens = setting.chunk;
    options.max_num_seqs = setting.sequences;
    options.enable_prefix_caching = setting.prefix_caching;
    options.kv_cache_dtype = setting.kv_cache_dtype;
    options.expert_batching = setting.expert_batching;
    options.max_num_step_seqs = setting.step_sequences;
    options.expert_batch_max_wait_steps = 5;
    options.expert_cache_memory = setting.expert_memory;
    options.expert_storage = expert_storage;
    options.expert_eviction = setting.expert_eviction;
    options.draft_tokens = setting.draft_tokens;
    options.expert_host_memory = setting.expert_host_memory;
    options.router_lookahead_tokens = setting.router_lookahead_tokens;
    options.device = device;
    options.expert_cache_dir = ::testing::TempDir();
    options.max_num_queued_tokens = 1 << 20;  // a small pool shall not make the queue small
    options.max_model_len = std::min(512, file->config().context_length);
    const DType dtype = options.kv_cache_dtype == "q8_0"  ? DType::kQ8_0
                        : options.kv_cache_dtype == "fp8" ? DType::kF8E4M3
                                                          : DType::kF16;
    options.tensor_parallel_size = ranks;
    options.kv_cache_memory =
        setting.pool_tokens / 16 * KvStorage::BlockBytes(file->config(), dtype, 16) / ranks;
    absl::StatusOr<EngineSetup> setup = SetUpEngine(std::move(file), options, nullptr);
    EXPECT_TRUE(setup.ok()) << setup.status();
    return MakeEngine(*std::move(setup));
  };
  for (const char* kv_dtype : {"f16", "bf16", "q8_0", "fp8"}) {
    const auto has_dtype = [&](const Setting& s) { return s.kv_cache_dtype == kv_dtype; };
    if (std::none_of(settings.begin(), settings.end(), has_dtype)) continue;
    std::vector<std::vector<Answer>> alone;
    {
      auto engine = make_engine({"alone", 2048, 1, false, 0, kv_dtype});
      for (const GenerationRequest& request : requests) alone.push_back(Ask(*engine, request));
    }
    for (const Setting& setting : settings) {
      if (!has_dtype(setting)) continue;
      auto engine = make_engine(setting);
      const auto together = AskAll(*engine, requests);
      ASSERT_EQ(together.size(), requests.size()) << setting.name;
      for (size_t r = 0; r < requests.size(); ++r) {
        for (size_t n = 0; n < alone[r].size(); ++n) {
          ExpectSame(alone[r][n], together[r][n],
                     absl::StrCat(setting.name, ", request ", r, ", answer ", n));
        }
      }
      const EngineStats stats = engine->stats();
      if (setting.pool_tokens > 0) {
        EXPECT_GT(stats.preemptions, 0) << setting.name;
      }
      if (setting.prefix_caching) {
        EXPECT_GT(stats.prefix_hits, 0) << setting.name;
      }
      if (setting.draft_tokens > 0) {  // some were right, and some were wrong
        EXPECT_GT(stats.accepted_tokens, 0) << setting.name;
        EXPECT_GT(stats.draft_tokens, stats.accepted_tokens) << setting.name;
      }
      if (setting.expert_memory > 0) {
        EXPECT_GT(stats.experts.loads[0], 8) << setting.name;
        EXPECT_GT(stats.experts.hits, 0) << setting.name;
        EXPECT_FALSE(stats.experts.all_resident) << setting.name;
      }
    }
  }
}

TEST(Consistency, RandomModel) {
  const RandomModelSpec spec;
  CheckConsistency(
      [&] { return MakeRandomModel(spec); }, RandomRequests(kRequests, spec.vocab_size, 150, 48, 1),
      {{"chunk 16", 16, 16, false, 0, "f16"},
       {"chunk 64, cache", 64, 64, true, 0, "f16"},
       {"chunk 300", 300, 64, false, 0, "f16"},
       {"chunk 2048, cache", 2048, 64, true, 0, "f16"},
       {"preemption", 256, 64, false, 224, "f16"},
       {"preemption, cache", 128, 64, true, 224, "f16"},
       {"q8_0, chunk 100, cache", 100, 64, true, 0, "q8_0"},
       {"q8_0, preemption", 256, 64, false, 224, "q8_0"},
       {"bf16, chunk 100, cache", 100, 64, true, 0, "bf16"},
       {"fp8, chunk 100, cache", 100, 64, true, 0, "fp8"},
       {"fp8, preemption", 256, 64, false, 224, "fp8"},
       {"drafts, cache", 128, 8, true, 0, "f16", "auto", 0, 0, "planned", 4},
       {"one draft, preemption", 256, 64, true, 224, "f16", "auto", 0, 0, "planned", 1},
       {"drafts, q8_0", 300, 4, false, 0, "q8_0", "auto", 0, 0, "planned", 7}});
}

TEST(Consistency, MixtureOfExperts) {
  RandomModelSpec spec;
  spec.num_experts = 6;
  spec.shared_ffn_size = 96;
  spec.matrix_dtype = DType::kQ8_0;
  CheckConsistency([&] { return MakeRandomModel(spec); },
                   RandomRequests(kRequests, spec.vocab_size, 150, 32, 3),
                   {{"chunk 16", 16, 16, false, 0, "f16"},
                    {"chunk 300, cache", 300, 64, true, 0, "f16"},
                    {"preemption, cache", 128, 64, true, 224, "f16"},
                    {"drafts", 128, 8, false, 0, "f16", "auto", 0, 0, "planned", 5}});
}

// Sums over ranks are taken in one order, whoever is in the step.
TEST(Consistency, Ranks) {
  RandomModelSpec spec;
  spec.num_experts = 6;
  spec.shared_ffn_size = 96;
  CheckConsistency(
      [&] { return MakeRandomModel(spec); }, RandomRequests(kRequests, spec.vocab_size, 150, 32, 5),
      {{"chunk 16", 16, 16, false, 0, "f16"}, {"preemption, cache", 128, 64, true, 224, "f16"}},
      "auto", "cpu", 2);
}

// Who waits for whose expert must change no token either.
TEST(Consistency, ReadMe) {
  const RandomModelSpec spec;
  ReadMeFolder folder("consistency");
  WriteReadMe(spec, folder);
  const std::string path = folder.Write();
  CheckConsistency(
      [&] { return ReadMeModel(spec, path); },
      RandomRequests(kRequests, spec.vocab_size, 150, 48, 3),
      {{"in order, chunk 64, cache", 64, 64, true, 0, "f16", "off"},
       {"by cost, cap, cache", 128, 64, true, 0, "f16", "on", 8},
       {"longest queue, cap", 300, 64, false, 0, "f16", "paper", 6},
       {"auto, preemption, cache", 128, 64, true, 224, "f16", "auto", 4},
       {"by cost, preemption", 256, 64, false, 224, "f16", "on", 5},
       {"nothing ahead, by cost, cap", 128, 64, true, 0, "f16", "on", 5, 0, "planned", 0, 0, 0},
       {"all ahead, longest queue", 64, 64, false, 0, "f16", "paper", 5, 0, "planned", 0, 0, 9999},
       {"answers first", 100, 64, true, 0, "q8_0", "decode-first", 7},
       {"prompts first", 100, 64, true, 0, "q8_0", "prefill-first", 7},
       {"drafts, cache", 128, 8, true, 0, "f16", "off", 0, 0, "planned", 4},
       {"drafts, by cost, cap", 128, 16, false, 0, "f16", "on", 6, 0, "planned", 6},
       {"drafts, preemption", 128, 64, true, 224, "f16", "auto", 0, 0, "planned", 3}});
}

std::vector<Setting> SettingsOfLittleMemory(int64_t experts) {
  return {{"in order, lru", 64, 64, true, 0, "f16", "off", 0, experts, "lru"},
          {"by cost, planned, cap", 128, 64, true, 0, "f16", "on", 8, experts},
          {"auto, random, preemption", 128, 64, true, 224, "f16", "auto", 4, experts, "random"},
          {"drafts", 128, 8, true, 0, "f16", "on", 0, experts, "planned", 4}};
}

// Nor must an expert that comes and goes. Each is a copy of half of the neurons; two of four fit.
TEST(Consistency, ExpertsThatDoNotFit) {
  const RandomModelSpec spec;
  ReadMeFolder folder("experts_that_do_not_fit");
  WriteReadMe(spec, folder);
  const std::string path = folder.Write();
  constexpr int64_t kTwoExperts = 2 * 2 * 3 * 64 * 64 * sizeof(float) + 4096;
  CheckConsistency([&] { return ReadMeModel(spec, path); },
                   RandomRequests(kRequests, spec.vocab_size, 150, 48, 4),
                   SettingsOfLittleMemory(kTwoExperts), "copies");
}

// Nor tiles of tied experts that come and go, a unit at a time. One expert fits, and a bit more.
TEST(Consistency, TiedExpertsThatDoNotFit) {
  const RandomModelSpec spec;
  ReadMeFolder folder("tied_experts_that_do_not_fit");
  WriteReadMe(spec, folder);
  const std::string path = folder.Write();
  constexpr int64_t kMemory = 160000;
  CheckConsistency([&] { return ReadMeModel(spec, path); },
                   RandomRequests(kRequests, spec.vocab_size, 150, 48, 4),
                   SettingsOfLittleMemory(kMemory), "tied");
}

// Nor where a device's memory, the host's and a disk stand one behind the other. A slot holds the
// largest piece, 96 neurons wide.
TEST(Consistency, ExpertsBehindADevice) {
  setenv("PREGATE_CUDA_MODULE", DISTANT_MODULE, 1);
  const RandomModelSpec spec;
  ReadMeFolder folder("experts_behind_a_device");
  WriteReadMe(spec, folder);
  const std::string path = folder.Write();
  constexpr int64_t kSlot = 3 * 64 * 96 * sizeof(float), kTwoExperts = 2 * 2 * kSlot;
  CheckConsistency(
      [&] { return ReadMeModel(spec, path); },
      RandomRequests(kRequests, spec.vocab_size, 150, 32, 4),
      {{"in order, lru", 64, 64, true, 0, "f16", "off", 0, kTwoExperts, "lru"},
       {"by cost, cap, disk", 128, 64, true, 0, "f16", "on", 8, kTwoExperts, "planned", 0,
        3 * kSlot + 2 * kSlot},
       {"auto, random, preemption", 128, 64, true, 224, "f16", "auto", 4, kTwoExperts, "random"},
       {"in order, disk alone", 100, 64, false, 0, "f16", "off", 0, kTwoExperts, "planned", 0,
        3 * kSlot}},
      "copies", "cuda");
  unsetenv("PREGATE_CUDA_MODULE");
}

TEST(Consistency, SmolLM2) {
  const std::string path = SampleModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (path.empty()) GTEST_SKIP() << "the sample model is not in the cache (deploy/fetch_model.sh)";
  CheckConsistency(
      [&] {
        auto file = ModelFile::Open(path);
        EXPECT_TRUE(file.ok()) << file.status();
        return *std::move(file);
      },
      RandomRequests(kRequests, 49152, 32, 12, 2),
      {{"chunk 16, cache", 16, 16, true, 0, "f16"},
       {"chunk 2048", 2048, 64, false, 0, "f16"},
       {"preemption, cache", 256, 64, true, 48, "f16"}});
}

}  // namespace
}  // namespace pregate
