// The entries of the CUDA table: the halves that launch. Contracts stand in kernels/kernels.h; all
// pointers in views and batches are to device memory, spans are the host's.
#ifndef PREGATE_KERNELS_CUDA_ENTRIES_H_
#define PREGATE_KERNELS_CUDA_ENTRIES_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/kernels.h"

namespace pregate::cuda {

// elementwise.cu
void Add(Device& device, ConstTensor a, ConstTensor b, Tensor out);

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_ENTRIES_H_
