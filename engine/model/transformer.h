// Transformer: executes a batch plan on the weights of a decoder-only model.
#ifndef PREGATE_ENGINE_MODEL_TRANSFORMER_H_
#define PREGATE_ENGINE_MODEL_TRANSFORMER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/expert_store.h"
#include "engine/model/kv_storage.h"
#include "engine/model/model_config.h"
#include "engine/model/model_file.h"
#include "engine/plan/batch_plan.h"
#include "kernels/communicator.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// Weights of all layers together that the same experts read: a step that meets any of them reads
// them once.
struct ExpertUnitSize {
  uint64_t readers = 0;  // bit e: expert e
  int64_t bytes = 0;
};

class Transformer {
 public:
  struct Options {
    int32_t max_rows = 2048;   // rows of the largest plan: --max-num-batched-tokens
    int32_t max_logits = 256;  // logit rows of the largest plan
    // What the inputs of matrices that multiply integers become: kQ16Act, kQ8Act, or kF32 (as they
    // are). --dtype auto, int8, float32.
    DType activations = DType::kQ16Act;
    // What matrices of floats become, but for gates and a router; none: as they are.
    std::optional<DType> quantization = std::nullopt;
    ExpertStorage expert_storage = ExpertStorage::kAuto;  // of a Read-ME model
    ExpertMemory expert_memory;                           // of a Read-ME model
    // Where `file` is a ModelShare, of its rank: sums what the ranks' sublayers add to the stream,
    // and brings the logits to rank 0. Must outlive the device. Null: the model is whole.
    Communicator* communicator = nullptr;
    std::function<void(double)> progress;  // share of the weights that is loaded; may be empty
  };

  // Takes every weight it needs from `file`, whose configuration must outlive it.
  // FAILED_PRECONDITION names a missing or misshapen tensor; UNIMPLEMENTED a tensor whose type
  // `kernels` cannot multiply; RESOURCE_EXHAUSTED: no room on the device.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const ModelFile& file, Device* device,
                                                             const Kernels* kernels,
                                                             const Options& options);
  virtual ~Transformer() = default;

  // The cache that Forward is to be called with; the errors of KvStorage::Create.
  virtual absl::StatusOr<std::unique_ptr<KvStorage>> MakeKv(DType dtype, int32_t block_tokens,
                                                            int32_t num_blocks) = 0;

  // Runs the plan: writes keys and values of its rows into `kv`, returns the logits of
  // plan.logit_rows, [logits, vocab] kF32, valid until the next call. DATA_LOSS: an expert that it
  // needs could not be loaded; what it has written is to be forgotten.
  virtual absl::StatusOr<Tensor> Forward(const BatchPlan& plan, const KvStorage& kv) = 0;

  // What the logits of the last Forward were made from: the hidden states of its logit rows behind
  // the last norm, [logits, H] kF32 in device memory, densely packed, valid until the next call.
  virtual ConstTensor logit_hidden() const = 0;

  // Where experts that do not all fit come from: the plan's evictions and loads are its orders.
  // Unit e is expert e. Null: everything is in memory.
  virtual ExpertStore* expert_store() const = 0;

  // What the experts of a Read-ME model read; empty for any other.
  virtual std::vector<ExpertUnitSize> ExpertUnits() const = 0;
  // The table of token embeddings, [vocab, H].
  virtual const PackedWeight& embedding() const = 0;
  // Bytes of weights that steps read, the embedding table's rows not counted.
  virtual int64_t weight_bytes() const = 0;
  // The same of each rank.
  virtual std::vector<int64_t> rank_weight_bytes() const { return {weight_bytes()}; }
  virtual int64_t num_parameters() const = 0;
  // Bytes of them that a step of `rows` rows reads on average, if gates inside the layers favour no
  // expert, and parameters that one row meets.
  virtual double StepBytes(int64_t rows) const = 0;
  virtual double RowParameters() const = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_TRANSFORMER_H_
