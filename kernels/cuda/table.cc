#include "kernels/cuda/table.h"

#include <algorithm>

#include "kernels/cuda/entries.h"

namespace pregate {

const Kernels& CudaKernels() {
  static const Kernels table = [] {
    Kernels kernels = {};
    kernels.name = "cuda";
    std::fill_n(kernels.activation_dtype, kNumDTypes, DType::kF32);
    kernels.packed_bytes = cuda::PackedBytes;
    kernels.pack = cuda::Pack;
    kernels.embed = cuda::Embed;
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
    return kernels;
  }();
  return table;
}

}  // namespace pregate
