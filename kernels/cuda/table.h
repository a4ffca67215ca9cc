// The table of CUDA kernels, whose entries take a GpuDevice.
#ifndef PREGATE_KERNELS_CUDA_TABLE_H_
#define PREGATE_KERNELS_CUDA_TABLE_H_

#include "kernels/kernels.h"

namespace pregate {

const Kernels& CudaKernels();

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_TABLE_H_
