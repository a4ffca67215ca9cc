// The likeliest tokens of rows of logits, for the entries that begin with them.
#ifndef PREGATE_KERNELS_CUDA_LIKELIEST_H_
#define PREGATE_KERNELS_CUDA_LIKELIEST_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace pregate::cuda {

// Rows of logits: the first `count`, or those that `draws`, in device memory, name.
struct LogitRows {
  ConstTensor logits;
  int32_t vocab;
  const TokenDraw* draws;
  int64_t count;
};

// Bytes of device memory, a multiple of 8, that ListLikeliest takes meanwhile.
size_t ListLikeliestScratch(Device& device, const LogitRows& rows, int32_t k);

// ids, values [count, k], as Kernels::likeliest gives them.
void ListLikeliest(Device& device, const LogitRows& rows, int32_t k, void* scratch, int32_t* ids,
                   float* values);

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_LIKELIEST_H_
