#include "kernels/cuda/table.h"

#include "kernels/cuda/entries.h"

namespace pregate {

const Kernels& CudaKernels() {
  static const Kernels table = [] {
    Kernels kernels = {};
    kernels.name = "cuda";
    kernels.rms_norm = cuda::RmsNorm;
    kernels.layer_norm = cuda::LayerNorm;
    kernels.rope_table = cuda::RopeTable;
    kernels.rope = cuda::Rope;
    kernels.kv_append = cuda::KvAppend;
    kernels.gated_activation = cuda::GatedActivation;
    kernels.add = cuda::Add;
    kernels.gather_rows = cuda::GatherRows;
    kernels.likeliest = cuda::Likeliest;
    return kernels;
  }();
  return table;
}

}  // namespace pregate
