// The table of CUDA kernels, whose entries take a GpuDevice. It keeps the laws of kernels.h but for
// one case: products of whole kF16 and kBF16 weights with 64 rows of activations or more, which are
// quantised, are a library's where there is one, and then a row's bits may depend on how many rows
// come with it.
#ifndef PREGATE_KERNELS_CUDA_TABLE_H_
#define PREGATE_KERNELS_CUDA_TABLE_H_

#include "kernels/kernels.h"

namespace pregate {

const Kernels& CudaKernels();

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_TABLE_H_
