#include "kernels/cuda/table.h"

#include <algorithm>

#include "kernels/cuda/entries.h"

namespace pregate {

const Kernels& CudaKernels() {
  static const Kernels table = [] {
    Kernels kernels = {};
    kernels.name = "cuda";
    std::fill_n(kernels.activation_dtype, kNumDTypes, DType::kF32);
    for (const DType dtype :
         {DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
          DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kF8Blocks}) {
      kernels.activation_dtype[static_cast<int>(dtype)] = DType::kQ16Act;
    }
    kernels.packed_bytes = cuda::PackedBytes;
    kernels.pack = cuda::Pack;
    kernels.embed = cuda::Embed;
    kernels.quantize_rows = cuda::QuantizeRows;
    kernels.matmul = cuda::Matmul;
    kernels.rms_norm = cuda::RmsNorm;
    kernels.layer_norm = cuda::LayerNorm;
    kernels.rope_table = cuda::RopeTable;
    kernels.rope = cuda::Rope;
    kernels.kv_append = cuda::KvAppend;
    kernels.attention = cuda::Attention;
    kernels.self_attention = cuda::SelfAttention;
    kernels.gated_activation = cuda::GatedActivation;
    kernels.add = cuda::Add;
    kernels.gather_rows = cuda::GatherRows;
    kernels.top_k_gate = cuda::TopKGate;
    kernels.combine_rows = cuda::CombineRows;
    kernels.likeliest = cuda::Likeliest;
    kernels.gather_logits = cuda::GatherLogits;
    kernels.edit_logits = cuda::EditLogits;
    kernels.draw_tokens = cuda::DrawTokens;
    kernels.sort_by_expert = cuda::SortByExpert;
    kernels.grouped_matmul = cuda::GroupedMatmul;
    return kernels;
  }();
  return table;
}

}  // namespace pregate
