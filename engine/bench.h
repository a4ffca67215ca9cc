// Measures a model's forward pass: prefill and decode at given batch sizes, no server, no queue.
#ifndef PREGATE_ENGINE_BENCH_H_
#define PREGATE_ENGINE_BENCH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"

namespace pregate {

struct BenchOptions {
  std::vector<int32_t> prompt_tokens = {512};
  std::vector<int32_t> batch_sizes = {1, 16};
  int32_t decode_tokens = 64;
  int32_t repetitions = 3;
  std::function<void()> turn = nullptr;  // called before each repetition, unless null
};

// One (prompt, batch) cell: every sequence's prompt is computed, then all decode together.
struct BenchRow {
  int32_t prompt_tokens = 0;
  int32_t batch_size = 0;
  double prefill_tokens_per_s = 0;  // medians over the repetitions, all sequences together
  double decode_tokens_per_s = 0;
  double decode_bytes_per_s = 0;  // weights read once a step; the KV cache is not counted
  double prefill_ops_per_s = 0;   // two for each weight multiplied; attention is not counted
};

struct BenchReport {
  ModelInfo model;
  // The host's roof, measured on the spot with all threads; 0 where the model is on another device.
  double read_bytes_per_s = 0;  // memory beyond the caches is read
  double fma_flops_per_s = 0;   // fp32 FMA in registers
  double int8_ops_per_s = 0;    // int8 dot products
  // Bytes of expert weights that a step reads which meets 1, 2, ... all experts of a Read-ME model:
  // the mean over all such sets of experts. Empty for any other model.
  std::vector<double> expert_bytes;
  std::vector<BenchRow> rows;
};

class ModelFile;

// `progress` is called with each finished row; may be null. Errors as Engine::Create;
// INVALID_ARGUMENT for sizes that are not positive or beyond the context.
absl::StatusOr<BenchReport> RunBench(const std::string& model_path, const EngineOptions& options,
                                     const BenchOptions& bench,
                                     const std::function<void(const BenchRow&)>& progress);
// The same for a model that is already open.
absl::StatusOr<BenchReport> RunBench(std::unique_ptr<ModelFile> file, const EngineOptions& options,
                                     const BenchOptions& bench,
                                     const std::function<void(const BenchRow&)>& progress);

}  // namespace pregate

#endif  // PREGATE_ENGINE_BENCH_H_
