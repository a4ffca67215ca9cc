// An engine whose model runs on several ranks: answers, what it says of itself, what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/engine_setup.h"
#include "engine/model/read_me_overlay.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/read_me_overlay.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"

namespace pregate {
namespace {

using testing::HasSubstr;

EngineOptions Ranks(int32_t ranks, bool by_expert = false) {
  EngineOptions options;
  options.device = std::string("cpu");
  options.dtype = std::string("float32");
  options.threads = 4;
  options.tensor_parallel_size = ranks;
  options.enable_expert_parallel = by_expert;
  options.kv_cache_memory = int64_t{8} << 20;
  return options;
}

// What a few prompts of several lengths are answered.
std::vector<std::vector<int32_t>> Answers(Engine& engine) {
  std::vector<std::vector<int32_t>> answers;
  for (const int length : {1, 7, 40}) {
    std::vector<int32_t> prompt;
    for (int i = 0; i < length; ++i) prompt.push_back((i * 37 + length) % 250);
    answers.push_back(Ask(engine, GreedyRequest(prompt, 24))[0].tokens);
  }
  return answers;
}

TEST(Ranks, AnswersAreThoseOfOne) {
  RandomModelSpec dense, mixture;
  mixture.num_experts = 6;
  mixture.shared_ffn_size = 128;
  for (const RandomModelSpec& spec : {dense, mixture}) {
    const auto alone = MakeEngine(*SetUpEngine(MakeRandomModel(spec), Ranks(1), nullptr));
    const auto want = Answers(*alone);
    EXPECT_EQ(want[2].size(), 24u);
    for (const int32_t ranks : {2, 4}) {
      for (const bool by_expert : {false, true}) {
        if (by_expert && spec.num_experts == 0) continue;
        auto setup = SetUpEngine(MakeRandomModel(spec), Ranks(ranks, by_expert), nullptr);
        ASSERT_TRUE(setup.ok()) << setup.status();
        const auto engine = MakeEngine(*std::move(setup));
        EXPECT_EQ(Answers(*engine), want) << ranks << " ranks, by expert " << by_expert;
      }
    }
  }
}

TEST(Ranks, ReadMeHasItsRouterAtTheFirst) {
  const RandomModelSpec spec;
  ReadMeFolder folder("ranks");
  WriteReadMe(spec, folder);
  const std::string path = folder.Write();
  std::vector<std::vector<std::vector<int32_t>>> answers;
  for (const int32_t ranks : {1, 2}) {
    for (const char* storage : {"tied", "copies"}) {
      EngineOptions options = Ranks(ranks);
      options.expert_storage = std::string(storage);
      auto setup = SetUpEngine(*LayReadMeOver(MakeRandomModel(spec), path), options, nullptr);
      ASSERT_TRUE(setup.ok()) << setup.status();
      answers.push_back(Answers(*MakeEngine(*std::move(setup))));
    }
  }
  EXPECT_THAT(answers, testing::Each(answers[0]));
}

TEST(Ranks, SaysWhatTheyAre) {
  const auto alone = SetUpEngine(MakeRandomModel(RandomModelSpec()), Ranks(1), nullptr);
  const auto two = SetUpEngine(MakeRandomModel(RandomModelSpec()), Ranks(2), nullptr);
  ASSERT_TRUE(alone.ok() && two.ok()) << alone.status() << two.status();
  const std::string isa((*CpuKernels())->name);
  EXPECT_EQ(two->info.device, "2 ranks, each cpu (" + isa + ", 2 threads)");
  EXPECT_EQ(alone->info.rank_weight_bytes.size(), 1u);
  ASSERT_EQ(two->info.rank_weight_bytes.size(), 2u);
  EXPECT_EQ(two->info.rank_weight_bytes[0] + two->info.rank_weight_bytes[1],
            two->info.weight_bytes);
  EXPECT_NEAR(static_cast<double>(two->info.rank_weight_bytes[0]) /
                  static_cast<double>(alone->info.weight_bytes),
              0.5, 0.01);
  EXPECT_EQ(two->info.num_parameters, alone->info.num_parameters);
  // Half of the heads, so that as much memory holds twice the tokens.
  EXPECT_EQ(two->info.kv_blocks, 2 * alone->info.kv_blocks);
}

TEST(Ranks, RefusesWhatDoesNotGoTogether) {
  const auto refusal = [](const EngineOptions& options, absl::StatusCode code) {
    const auto setup = SetUpEngine(MakeRandomModel(RandomModelSpec()), options, nullptr);
    EXPECT_EQ(setup.status().code(), code) << setup.status();
    return std::string(setup.status().message());
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(refusal(Ranks(0), kInvalid), "tensor-parallel-size: must be in [1, 64]; got 0");
  EXPECT_EQ(refusal(Ranks(65), kInvalid), "tensor-parallel-size: must be in [1, 64]; got 65");
  EXPECT_EQ(refusal(Ranks(1, true), kInvalid),
            "tensor-parallel-size: must be >= 2 with enable-expert-parallel; got 1");
  EXPECT_EQ(refusal(Ranks(3), kInvalid),
            "tensor-parallel-size: must divide the model's 4 attention heads; got 3");
  EXPECT_EQ(refusal(Ranks(2, true), kInvalid),
            "enable-expert-parallel: must be off for a model without gates; got on");
  EngineOptions stored = Ranks(2);
  stored.expert_cache_memory = 1 << 20;
  EXPECT_THAT(refusal(stored, absl::StatusCode::kUnimplemented),
              HasSubstr("tensor-parallel-size: must be 1 with expert-cache-memory"));
  // A rank that finds no room: the others end, and the reason is told.
  EngineOptions large = Ranks(2);
  large.max_num_seqs = 4096;
  large.max_num_batched_tokens = 65536;
  large.kv_cache_memory = UsableMemory() * 4;
  RandomModelSpec spec;
  spec.context_length = 1 << 20;
  large.max_model_len = 1 << 20;
  const auto setup = SetUpEngine(MakeRandomModel(spec), large, nullptr);
  EXPECT_EQ(setup.status().code(), absl::StatusCode::kResourceExhausted) << setup.status();
}

}  // namespace
}  // namespace pregate
