#include "kernels/quant/matmul.h"
#include "kernels/reference/reference.h"

namespace pregate {

const Kernels& ReferenceKernels() {
  static const Kernels table = [] {
    Kernels kernels = {};
    kernels.name = "reference";
    kernels.rms_norm = reference::RmsNorm;
    kernels.layer_norm = reference::LayerNorm;
    kernels.rope_table = reference::RopeTable;
    kernels.rope = reference::Rope;
    kernels.kv_append = reference::KvAppend;
    kernels.attention = reference::Attention;
    kernels.self_attention = reference::SelfAttend;
    kernels.gated_activation = reference::GatedActivation;
    kernels.add = reference::Add;
    kernels.gather_rows = reference::GatherRows;
    kernels.top_k_gate = reference::TopKGate;
    kernels.combine_rows = reference::CombineRows;
    kernels.likeliest = reference::Likeliest;
    kernels.gather_logits = reference::GatherLogits;
    kernels.edit_logits = reference::EditLogits;
    kernels.draw_tokens = reference::DrawTokens;
    FillMatmulReference(&kernels);
    return kernels;
  }();
  return table;
}

}  // namespace pregate
