#include "kernels/cuda/table.h"

#include "kernels/cuda/entries.h"

namespace pregate {

const Kernels& CudaKernels() {
  static const Kernels table = [] {
    Kernels kernels = {};
    kernels.name = "cuda";
    kernels.add = cuda::Add;
    return kernels;
  }();
  return table;
}

}  // namespace pregate
