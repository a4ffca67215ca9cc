#include "engine/model/f8_weights.h"

#include <cassert>
#include <vector>

#include "kernels/quant/quantize_weights.h"

namespace pregate {
namespace {

int64_t Blocks(int64_t count) { return (count + kF8BlockSize - 1) / kF8BlockSize; }

float ScaleAt(ConstTensor scales, int64_t index) {
  if (scales.dtype == DType::kF16) return HalfToFloat(scales.Row<uint16_t>(0)[index]);
  if (scales.dtype == DType::kBF16) return BFloat16ToFloat(scales.Row<uint16_t>(0)[index]);
  assert(scales.dtype == DType::kF32);
  return scales.Row<float>(0)[index];
}

}  // namespace

bool AreF8Scales(const TensorInfo& scales, int64_t rows, int64_t cols) {
  const std::vector<int64_t>& shape = scales.shape;
  if (shape.size() != 2) return false;
  return (shape[1] == 1 && (shape[0] == 1 || shape[0] == rows)) ||
         (shape[0] == Blocks(rows) && shape[1] == Blocks(cols));
}

void WriteF8Blocks(ConstTensor elements, ConstTensor scales, Device& device, char* rows) {
  const int64_t cols = elements.cols, count = scales.rows * scales.cols;
  const int64_t row_bytes = RowBytes(DType::kF8Blocks, cols);
  const bool by_row = scales.cols == 1 && scales.rows == elements.rows;
  const bool by_block = count > 1 && !by_row;
  device.ParallelFor(elements.rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> of_row(static_cast<size_t>(cols / 32));
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t b = 0; b < cols / 32; ++b) {
        const int64_t index = by_row     ? r
                              : by_block ? r / kF8BlockSize * Blocks(cols) + b * 32 / kF8BlockSize
                                         : 0;
        of_row[static_cast<size_t>(b)] = ScaleAt(scales, index);
      }
      JoinF8Row(elements.Row<uint8_t>(r), of_row.data(), cols, rows + r * row_bytes);
    }
  });
}

}  // namespace pregate
