// Rows of any weight type as floats, exactly as the format documents define them.
#ifndef PREGATE_KERNELS_QUANT_DEQUANTIZE_H_
#define PREGATE_KERNELS_QUANT_DEQUANTIZE_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace pregate {

// out[0, cols) = the values of a densely packed row of `cols` elements. `dtype` is any weight type
// (not kI32, not kQ16Act); `cols` is a multiple of its block. Every float operation rounds once, in
// the order of formats.h, so the result is the same on every machine.
void DequantizeRow(DType dtype, const void* src, int64_t cols, float* out);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_DEQUANTIZE_H_
