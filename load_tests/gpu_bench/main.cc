// Measures forward passes on a GPU with models of well-known shapes and meaningless weights, so
// that nothing has to be fetched or written to a disk; and what clients get of experts that do not
// all fit (experts.h).
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "engine/bench.h"
#include "load_tests/gpu_bench/experts.h"
#include "nlohmann/json.hpp"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

// A shape, a type of weights, and the steps that are measured: one prompt, then decoding.
struct Case {
  std::string name;
  RandomModelSpec shape;
  std::vector<int32_t> prompt_tokens;
  std::vector<int32_t> batch_sizes;
};

RandomModelSpec Llama8B(DType dtype) {
  return {.num_layers = 32,
          .hidden_size = 4096,
          .ffn_size = 14336,
          .num_heads = 32,
          .num_kv_heads = 8,
          .head_dim = 128,
          .vocab_size = 128256,
          .context_length = 8192,
          .matrix_dtype = dtype,
          .one_matrix = true};
}

// Qwen3-30B-A3B: 128 experts, eight of them for each token.
RandomModelSpec Qwen30B(DType dtype) {
  return {.num_layers = 48,
          .hidden_size = 2048,
          .ffn_size = 768,
          .num_heads = 32,
          .num_kv_heads = 4,
          .head_dim = 128,
          .vocab_size = 151936,
          .context_length = 8192,
          .qk_norm = true,
          .num_experts = 128,
          .experts_per_token = 8,
          .matrix_dtype = dtype,
          .one_matrix = true};
}

// The first is for trying the program itself.
std::vector<Case> Cases() {
  RandomModelSpec small = Llama8B(DType::kQ4_K);
  small.num_layers = 2;
  small.hidden_size = small.ffn_size = 512;
  small.num_heads = 4;
  small.num_kv_heads = 2;
  small.vocab_size = 512;
  return {{"small", small, {64}, {1, 3}},
          {"llama-8b-bf16", Llama8B(DType::kBF16), {128}, {1, 64, 256}},
          {"llama-8b-bf16-prefill", Llama8B(DType::kBF16), {4096}, {1}},
          {"llama-8b-q4_k", Llama8B(DType::kQ4_K), {128}, {1, 64}},
          {"llama-8b-q4_k-prefill", Llama8B(DType::kQ4_K), {4096}, {1}},
          {"qwen3-30b-a3b-bf16", Qwen30B(DType::kBF16), {128}, {1, 32, 128}}};
}

nlohmann::ordered_json ToJson(const std::string& name, const ModelInfo& model,
                              const BenchRow& row) {
  return {{"case", name},
          {"ranks", std::max<size_t>(1, model.rank_weight_bytes.size())},
          {"device", model.device},
          {"weight_bytes", model.weight_bytes},
          {"prompt_tokens", row.prompt_tokens},
          {"batch_size", row.batch_size},
          {"prefill_tokens_per_s", row.prefill_tokens_per_s},
          {"prefill_ops_per_s", row.prefill_ops_per_s},
          {"decode_tokens_per_s", row.decode_tokens_per_s},
          {"decode_bytes_per_s", row.decode_bytes_per_s}};
}

int Run(const std::vector<std::string>& names, const std::string& device, int32_t ranks) {
  for (const Case& c : Cases()) {
    const bool wanted = std::find(names.begin(), names.end(), c.name) != names.end();
    if (!wanted) continue;
    EngineOptions options;
    options.device = device;
    options.tensor_parallel_size = ranks;
    options.max_num_batched_tokens = 4096;
    const BenchOptions bench = {.prompt_tokens = c.prompt_tokens,
                                .batch_sizes = c.batch_sizes,
                                .decode_tokens = 64,
                                .repetitions = 3};
    const absl::StatusOr<BenchReport> report =
        RunBench(MakeRandomModel(c.shape), options, bench, nullptr);
    if (!report.ok()) {
      std::fprintf(stderr, "%s: %s\n", c.name.c_str(),
                   std::string(report.status().message()).c_str());
      return 1;
    }
    for (const BenchRow& row : report->rows) {
      std::printf("%s\n", ToJson(c.name, report->model, row).dump().c_str());
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  CLI::App app("Measures prefill and decode of well-known shapes; a line of JSON for each");
  std::vector<std::string> names;
  std::string device = "cuda";
  std::vector<std::string> known;
  for (const auto& c : pregate::Cases()) known.push_back(c.name);
  for (const std::string& name : pregate::ExpertCases()) known.push_back(name);
  app.add_option("cases", names, "What to measure")->required()->check(CLI::IsMember(known));
  app.add_option("--device", device, "cuda, cpu or auto")->capture_default_str();
  int32_t ranks = 1;
  app.add_option("--tensor-parallel-size", ranks, "GPUs that share the model")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (const int status = pregate::Run(names, device, ranks); status != 0) return status;
  for (const std::string& name : pregate::ExpertCases()) {
    if (std::find(names.begin(), names.end(), name) == names.end()) continue;
    if (const int status = pregate::RunExpertCase(name, device); status != 0) return status;
  }
  return 0;
}
