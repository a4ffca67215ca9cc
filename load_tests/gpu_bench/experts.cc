#include "load_tests/gpu_bench/experts.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/engine_setup.h"
#include "engine/model/read_me_overlay.h"
#include "nlohmann/json.hpp"
#include "tests/engine/read_me_overlay.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"

namespace pregate {
namespace {

constexpr int32_t kExperts = 4;  // of WriteReadMe, half of the neurons each
constexpr int kClients = 32;
constexpr int32_t kPromptTokens = 64, kAnswerTokens = 32;

// Half of the layers of Llama 8B, each expert 2.8 GB; or one for trying the program itself.
RandomModelSpec ShapeOf(bool small) {
  RandomModelSpec shape = {.num_layers = 16,
                           .hidden_size = 4096,
                           .ffn_size = 14336,
                           .num_heads = 32,
                           .num_kv_heads = 8,
                           .head_dim = 128,
                           .vocab_size = 32000,
                           .context_length = 1024,
                           .matrix_dtype = DType::kBF16,
                           .one_matrix = true};
  if (!small) return shape;
  shape.num_layers = 4;
  shape.hidden_size = shape.ffn_size = 256;
  shape.num_heads = 4;
  shape.num_kv_heads = 2;
  shape.vocab_size = 512;
  return shape;
}

// Bytes of an expert on the device, or a little more: tiles of 32 neurons, and what aligns
// matrices.
int64_t ExpertBytes(const RandomModelSpec& shape) {
  const int64_t neurons = (shape.ffn_size / 2 + 64) / 32 * 32;
  const int64_t piece = 3 * neurons * shape.hidden_size * 2;
  return shape.num_layers * (piece + piece / 256 + 8192);
}

// What steps have waited for, and what was answered.
class Tally {
 public:
  void Add(const StepStats& step) {
    absl::MutexLock lock(&mutex_);
    seconds_ +=
        absl::ToDoubleSeconds(step.pregate + step.plan + step.execute + step.sample + step.commit);
    stall_ += absl::ToDoubleSeconds(step.expert_stall);
    copying_ += absl::ToDoubleSeconds(step.expert_stall_copying);
  }
  void Ended(const GenerationOutput& output) {
    absl::MutexLock lock(&mutex_);
    tokens_ += static_cast<int64_t>(output.token_ids.size());
    if (output.finish == FinishReason::kNone) return;
    --running_;
    failed_ += output.finish != FinishReason::kLength;
  }
  // Waits until another client may ask, and counts it.
  void AwaitFewerThan(int clients) {
    absl::MutexLock lock(&mutex_);
    const auto fewer = [&] { return running_ < clients; };
    mutex_.Await(absl::Condition(&fewer));
    ++running_;
  }
  void AwaitAll() {
    AwaitFewerThan(1);
    absl::MutexLock lock(&mutex_);
    --running_;
  }
  void Reset() {
    absl::MutexLock lock(&mutex_);
    seconds_ = stall_ = copying_ = 0;
    tokens_ = 0;
  }
  nlohmann::ordered_json Read(double wall) const {
    absl::MutexLock lock(&mutex_);
    return {{"tokens_per_s", static_cast<double>(tokens_) / wall},
            {"stall_share", stall_ / seconds_},
            {"link_busy_while_stalled", stall_ > 0 ? copying_ / stall_ : 0.0},
            {"failed", failed_}};
  }

 private:
  mutable absl::Mutex mutex_;
  double seconds_ = 0, stall_ = 0, copying_ = 0;
  int64_t tokens_ = 0, failed_ = 0;
  int running_ = 0;
};

// Random tokens, so that every token's expert is as good as random: nothing sticks, which is the
// worst that a cache can meet.
GenerationRequest RandomRequest(uint32_t seed) {
  std::mt19937 random(seed);
  GenerationRequest request;
  for (int32_t i = 0; i < kPromptTokens; ++i) {
    request.prompt.push_back(static_cast<int32_t>(random() % 256));
  }
  request.max_tokens = kAnswerTokens;
  request.ignore_eos = true;
  request.sampling.resize(1);
  request.sampling[0].temperature = 1;
  request.sampling[0].top_k = 64;
  request.sampling[0].seed = seed;
  return request;
}

absl::Status Ask(Engine& engine, int count, uint32_t seed, Tally* tally) {
  for (int i = 0; i < count; ++i) {
    tally->AwaitFewerThan(kClients);
    const auto id = engine.Submit(RandomRequest(seed + static_cast<uint32_t>(i)),
                                  [tally](GenerationOutput output) { tally->Ended(output); });
    if (!id.ok()) return id.status();
  }
  tally->AwaitAll();
  return absl::OkStatus();
}

struct Case {
  std::string name;
  bool small;
  int percent;
  bool planned;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const char* size : {"small", "8b"}) {
    for (const int percent : {25, 50, 75}) {
      for (const char* way : {"planned", "demand"}) {
        cases.push_back({absl::StrCat("experts-", size, "-", percent, "-", way),
                         std::string(size) == "small", percent, std::string(way) == "planned"});
      }
    }
  }
  return cases;
}

EngineOptions OptionsOf(const Case& c, const RandomModelSpec& shape, const std::string& device) {
  EngineOptions options;
  options.device = device;
  options.max_num_seqs = kClients;
  options.max_num_batched_tokens = 512;
  options.enable_prefix_caching = false;
  options.expert_storage = std::string("copies");
  options.expert_cache_memory = ExpertBytes(shape) * kExperts * c.percent / 100;
  if (c.planned) return options;
  options.expert_batching = std::string("off");
  options.expert_eviction = std::string("lru");
  options.expert_prefetch = false;
  return options;
}

absl::StatusOr<nlohmann::ordered_json> Measure(const Case& c, const RandomModelSpec& shape,
                                               const std::string& device) {
  ReadMeFolder folder(c.name);
  WriteReadMe(shape, folder);
  absl::StatusOr<std::unique_ptr<ModelFile>> file =
      LayReadMeOver(MakeRandomModel(shape), folder.Write());
  if (!file.ok()) return file.status();
  absl::StatusOr<EngineSetup> setup =
      SetUpEngine(*std::move(file), OptionsOf(c, shape, device), nullptr);
  if (!setup.ok()) return setup.status();
  Tally tally;
  const std::unique_ptr<Engine> engine = MakeEngine(*std::move(setup));
  engine->SetStepObserver([&tally](const StepStats& step) { tally.Add(step); });
  absl::Status asked = Ask(*engine, kClients, 1, &tally);  // to warm up
  if (!asked.ok()) return asked;
  tally.Reset();
  const ExpertCounters before = engine->stats().experts;
  const auto start = std::chrono::steady_clock::now();
  asked = Ask(*engine, 4 * kClients, 1000, &tally);
  if (!asked.ok()) return asked;
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
  engine->WaitUntilIdle(absl::Seconds(10));
  const ExpertCounters after = engine->stats().experts;
  nlohmann::ordered_json row = {{"case", c.name},
                                {"device", engine->model().device},
                                {"resident_percent", c.percent},
                                {"way", c.planned ? "planned" : "demand"}};
  row.update(tally.Read(wall.count()));
  row["loaded_bytes"] = after.load_bytes[0] - before.load_bytes[0];
  row["wasted_bytes"] = after.wasted_bytes[0] - before.wasted_bytes[0];
  row["hits"] = after.hits - before.hits;
  row["late"] = after.late - before.late;
  row["misses"] = after.misses - before.misses;
  return row;
}

}  // namespace

std::vector<std::string> ExpertCases() {
  std::vector<std::string> names;
  for (const Case& c : Cases()) names.push_back(c.name);
  return names;
}

int RunExpertCase(const std::string& name, const std::string& device) {
  const std::vector<Case> cases = Cases();
  const Case& c = *std::find_if(cases.begin(), cases.end(),
                                [&](const Case& other) { return other.name == name; });
  const RandomModelSpec shape = ShapeOf(c.small);
  const absl::StatusOr<nlohmann::ordered_json> row = Measure(c, shape, device);
  if (!row.ok()) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), std::string(row.status().message()).c_str());
    return 1;
  }
  std::printf("%s\n", row->dump().c_str());
  return 0;
}

}  // namespace pregate
