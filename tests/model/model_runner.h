// Drives a transformer from a test: sequences of ids in, logits out.
#ifndef PREGATE_TESTS_MODEL_MODEL_RUNNER_H_
#define PREGATE_TESTS_MODEL_MODEL_RUNNER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "engine/model/expert_router.h"
#include "engine/model/kv_storage.h"
#include "engine/model/model_file.h"
#include "engine/model/transformer.h"
#include "engine/plan/expert_planner.h"
#include "kernels/communicator.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

class ModelRunner {
 public:
  struct Options {
    DType activations = DType::kQ16Act;
    std::optional<DType> quantization = std::nullopt;  // of matrices of floats
    DType kv_dtype = DType::kF32;
    int32_t num_sequences = 1;
    int32_t max_tokens = 1024;  // of each sequence
    int32_t max_rows = 512;     // of a step; logits are taken of every row
    int threads = 0;
    ExpertStorage expert_storage = ExpertStorage::kAuto;
    ExpertMemory expert_memory = {};  // 0 bytes: all experts stay
    // Of the host, each with `threads`; more than one run the model together.
    int32_t ranks = 1;
    bool by_expert = false;
  };
  // Aborts the test when the model cannot be made. `file` must outlive the runner.
  ModelRunner(const ModelFile& file, const Kernels& kernels, const Options& options)
      : ModelRunner(file, kernels, MakeCpuDevice(options.threads), options) {}
  ModelRunner(const ModelFile& file, const Kernels& kernels, std::unique_ptr<Device> device,
              const Options& options);

  // The next ids of one sequence.
  struct Piece {
    int32_t sequence;
    absl::Span<const int32_t> ids;
  };
  // One step over `pieces`, at most one for each sequence. Logits of all rows, in their order, in
  // the host's memory; valid until the next step. Blocks of the sequences are interleaved and run
  // backwards. A router ahead of the model runs first.
  Tensor Step(const std::vector<Piece>& pieces);
  // The same step of the router alone: the experts of all rows.
  std::vector<int32_t> Route(const std::vector<Piece>& pieces);

  // Logits [ids, vocab] of one sequence, `chunk` rows a step. Forgets the sequence before.
  std::vector<float> Run(int32_t sequence, absl::Span<const int32_t> ids, int32_t chunk);
  void Forget(int32_t sequence) { lengths_[static_cast<size_t>(sequence)] = 0; }

  // The `count` ids that greedy decoding adds to `ids`.
  std::vector<int32_t> Greedy(absl::Span<const int32_t> ids, int32_t count);

  const Transformer& transformer() const { return *transformer_; }
  // What became of experts that come and go.
  ExpertStats expert_stats() const { return experts_->stats(); }
  const ExpertRouter& router() const { return *router_; }

 private:
  // Runs a plan, and brings the experts that it needs.
  Tensor Forward(BatchPlan plan);

  std::unique_ptr<Transformer> MakeSharded(const ModelFile& file, const Kernels& kernels,
                                           const Transformer::Options& options);
  // The rows of the next step.
  BatchPlan Plan(const std::vector<Piece>& pieces);

  Options options_;
  std::vector<std::unique_ptr<Communicator>> ends_;
  std::unique_ptr<Device> device_;
  std::vector<float> logits_;  // of the last step
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<ExpertRouter> router_;  // null: the model has none
  std::optional<ExpertPlanner> experts_;  // none: they all stay
  std::unique_ptr<KvStorage> kv_;
  std::vector<int32_t> lengths_;  // [num_sequences] positions in the cache
};

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_MODEL_RUNNER_H_
