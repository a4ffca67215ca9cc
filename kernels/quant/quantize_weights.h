// Rows of floats as weights of a block format: the way back from dequantize.h.
#ifndef PREGATE_KERNELS_QUANT_QUANTIZE_WEIGHTS_H_
#define PREGATE_KERNELS_QUANT_QUANTIZE_WEIGHTS_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace pregate {

// Whether QuantizeRow writes the type: the plain ones, the formats with blocks of 32
// and kQ13.
bool CanQuantize(DType dtype);

// Writes x[0, cols) to `out` as a densely packed row; `cols` is a multiple of the type's block.
// A block's scale (and minimum) are those that just span its elements, rounded to half precision;
// each element becomes the nearest that these can say. It is off by half a step at most, and by
// what the rounding takes from the far end, where a step is the block's largest |x| / 127 (Q8_0),
// / 4095 (Q13), / 8 (Q4_0), / 16 (Q5_0), or its range / 15 (Q4_1), / 31 (Q5_1). In Q4_0 and Q5_0
// the elements opposite to the largest may be off by a whole step, as their quants reach one less.
void QuantizeRow(DType dtype, const float* x, int64_t cols, void* out);

// Writes a row of kF8E4M3 with its scales, one for each 32 elements, as kF8Blocks. Nothing is
// rounded. What E4M3 calls NaN makes its 32 elements NaN.
void JoinF8Row(const uint8_t* elements, const float* scales, int64_t cols, void* out);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_QUANTIZE_WEIGHTS_H_
