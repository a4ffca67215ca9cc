// The one FFN of the forward pass: dense, mixtures with a gate in each layer, and experts that the
// plan names. The differences are data (ffn_weights.h).
#ifndef PREGATE_ENGINE_MODEL_FFN_H_
#define PREGATE_ENGINE_MODEL_FFN_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/model/activations.h"
#include "engine/model/expert_store.h"
#include "engine/model/ffn_weights.h"
#include "engine/model/model_config.h"
#include "engine/plan/batch_plan.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// The rows of a step by expert: a permutation for the FFN alone, attention keeps rows by sequence.
struct RowsByExpert {
  int32_t k = 0;               // experts of a row
  std::vector<int32_t> start;  // [experts + 1] into rows
  std::vector<int32_t> rows;   // [R * k or fewer] row indices, ascending for each expert
  // [R, k] where in `rows` the j-th expert of a row has it; -1: the expert is another rank's
  std::vector<int32_t> positions;

  // `ids` [R, per_row], those of a row different; negative: of another rank, to be left out; others
  // in [0, num_experts).
  void Sort(absl::Span<const int32_t> ids, int32_t per_row, int32_t num_experts);
};

class Ffn {
 public:
  // `activations`: what inputs of matrices that multiply integers become, kQ16Act or kQ8Act. The
  // configuration must outlive this. `store`: of the plan's experts' units; null: they are all in
  // memory.
  Ffn(const ModelConfig& config, Device* device, const Kernels* kernels, DType activations,
      ExpertStore* store)
      : config_(config),
        device_(*device),
        kernels_(*kernels),
        activations_(activations),
        store_(store) {}

  // Once a step, before Run: where the plan names the experts, sorts the rows for all layers.
  // `num_experts`: those that the plan may name.
  void StartStep(const BatchPlan& plan, int32_t num_experts, const Activations& a);

  // a.projected = FFN(a.normed), row by row, of a layer. DATA_LOSS: an expert could not be loaded.
  absl::Status Run(const FfnWeights& ffn, int32_t layer, const Activations& a);

 private:
  // An expert and the rows that it runs for.
  struct Group {
    const Expert* expert = nullptr;
    ConstTensor x;                // [R', H]
    Tensor hidden = {}, up = {};  // [R', width]
    Tensor out;                   // [R', H]
    int64_t contracted = 0;       // neurons that have met the down projection
  };

  // All routed experts of a layer together, where the device alone knows whose rows are whose.
  struct RoutedGroup {
    ConstTensor x;                // [R * k, H] in the order of the experts
    Tensor hidden = {}, up = {};  // [R * k, width]
    Tensor out;                   // [R * k, H]
    const int32_t* row_start = nullptr;
    int64_t max_rows = 0;                         // of one expert
    std::vector<PackedWeight> gates, ups, downs;  // of each expert
  };

  absl::Status AwaitExperts(const FfnWeights& ffn, int32_t layer);
  void RunExperts(const FfnWeights& ffn, const Activations& a);
  void ChooseExperts(const FfnWeights& ffn, const Activations& a);
  void GroupByExpert(const FfnWeights& ffn, const Activations& a);
  void GroupOnDevice(const FfnWeights& ffn, const Activations& a);
  void Upload(const Activations& a);
  void AddGroup(const Expert& expert, ConstTensor x, Tensor out, const Activations& a);
  void RunGroups(const FfnWeights& ffn, const Activations& a);
  void Expand(const FfnWeights& ffn, const Activations& a);
  void Contract(const FfnWeights& ffn, const Activations& a);
  ConstTensor Operand(const Linear& linear, ConstTensor x, const Activations& a);
  void StartProducts();
  void QuantizeOperands();

  const ModelConfig& config_;
  Device& device_;
  const Kernels& kernels_;
  const DType activations_;
  ExpertStore* const store_;

  RowsByExpert sorted_;  // of the step (the plan's experts) or of the layer that runs (a gate's)
  std::vector<int32_t> chosen_;  // [R, k] what a gate has answered
  // Of the layer that runs: its own, or, where experts come and go, those that are there now.
  const std::vector<NeuronBlock>* blocks_ = nullptr;
  std::vector<NeuronBlock> placed_;
  std::vector<Group> groups_;
  RoutedGroup routed_;   // without rows: none
  int64_t neurons_ = 0;  // of all groups and rows, in the memory of a.gate and a.up
  std::vector<Product> products_;
  std::vector<GroupedProduct> grouped_;
  std::vector<Quantization> operands_;
  int64_t operand_bytes_ = 0;  // in the memory of a.quantized
  std::vector<GatedRows> gated_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_FFN_H_
