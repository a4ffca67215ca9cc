// The FFN of one layer as data: dense, a mixture with a gate in the layer, or the experts of a
// Read-ME model, which the plan names. Ffn (ffn.h) runs all of them in one way.
#ifndef PREGATE_ENGINE_MODEL_FFN_WEIGHTS_H_
#define PREGATE_ENGINE_MODEL_FFN_WEIGHTS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/model/linear.h"

namespace pregate {

// Neurons that are stored side by side: a unit of residency.
struct NeuronBlock {
  Linear gate, up;  // [n, H]
  Linear down;      // [H, n]
};

// Neurons of a block that an expert runs.
struct ExpertPart {
  int32_t block = 0;           // index into FfnWeights::blocks
  std::vector<int32_t> tiles;  // of 32 neurons, ascending; empty: the whole block
};

// y = sum over parts of down (activation(gate x) * up x).
struct Expert {
  std::vector<ExpertPart> parts;
  // Which of the neurons that the parts run count, see GatedRows; empty: all.
  std::vector<uint32_t> owned;      // [width / 32]
  int64_t width = 0;                // neurons of all parts
  std::vector<int32_t> units = {};  // of the store, where experts come and go: what it reads
};

struct FfnWeights {
  std::vector<NeuronBlock> blocks;
  // One: dense, it runs for every row. More: a gate in the layer or the plan chooses among the
  // first num_routed().
  std::vector<Expert> experts;
  // A gate's number of the first: others run on other ranks, where experts are dealt out.
  int32_t first_expert = 0;
  Linear gate;                 // [routed experts, H]; none: dense, or the plan's expert_ids choose
  int32_t shared_expert = -1;  // the last of `experts`, if not negative: runs for every row
  Linear shared_gate;          // [1, H]: its output is multiplied by sigmoid(W x); none: by 1

  int32_t num_routed() const {
    return static_cast<int32_t>(experts.size()) - (shared_expert < 0 ? 0 : 1);
  }
  // Experts that the gate chooses among, or the plan.
  int32_t num_choices() const {
    return gate ? static_cast<int32_t>(gate.weight.rows) : num_routed();
  }
  bool dense() const { return experts.size() == 1 && !gate; }
};

// What the largest FFN of a model takes of scratch memory, for each row of a step.
struct FfnShape {
  int64_t experts = 0;     // of one row, where rows are sorted by expert; 0: all layers are dense
  int64_t neurons = 0;     // of one row, all of its experts together
  int64_t num_routed = 0;  // logits of a gate

  // `top_k`: experts that a gate or the plan gives a row.
  void Cover(const FfnWeights& ffn, int32_t top_k) {
    int64_t widest = 0;
    for (int32_t e = 0; e < ffn.num_routed(); ++e) {
      widest = std::max(widest, ffn.experts[static_cast<size_t>(e)].width);
    }
    if (ffn.dense()) {
      neurons = std::max(neurons, widest);
      return;
    }
    const bool shared = ffn.shared_expert >= 0;
    const int64_t shared_width =
        shared ? ffn.experts[static_cast<size_t>(ffn.shared_expert)].width : 0;
    experts = std::max<int64_t>(experts, top_k + (shared ? 1 : 0));
    neurons = std::max(neurons, top_k * widest + shared_width);
    num_routed = std::max<int64_t>(num_routed, ffn.num_choices());
  }
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_FFN_WEIGHTS_H_
