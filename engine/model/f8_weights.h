// Weights of a file in kF8E4M3, whose scales are tensors of their own.
#ifndef PREGATE_ENGINE_MODEL_F8_WEIGHTS_H_
#define PREGATE_ENGINE_MODEL_F8_WEIGHTS_H_

#include <cstdint>
#include <string_view>

#include "engine/model/model_file.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace pregate {

// "X.weight" has its scales in "X.weight_scale", a matrix: what its elements are multiplied by.
inline constexpr std::string_view kF8ScaleSuffix = "_scale";
// Rows and columns of a block with one scale; the last ones may be smaller.
inline constexpr int64_t kF8BlockSize = 128;

// Whether scales of this shape are for a matrix [rows, cols]: one for all [1, 1], one for each row
// [rows, 1], or one for each block.
bool AreF8Scales(const TensorInfo& scales, int64_t rows, int64_t cols);

// Writes the rows of a kF8E4M3 matrix as kF8Blocks, densely packed. `scales` has passed AreF8Scales
// and is of a plain type. What E4M3 calls NaN makes its 32 elements NaN.
void WriteF8Blocks(ConstTensor elements, ConstTensor scales, Device& device, char* rows);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_F8_WEIGHTS_H_
