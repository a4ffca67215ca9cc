// What quantize_rows makes of activations on this table, for kQ16Act and kQ8Act alike: halves, a
// plain matrix for tensor cores and libraries.
//
// A row is divided by a power of two: by 16 where its largest element is in [1/4, 2^19), as it is
// nearly always, so that products of rows with one scale need no pass over their results; otherwise
// by one that brings the largest into [2^14, 2^15), so that no finite row is too large and no small
// one loses bits. An element is off by 2^-11 of itself at most, or 2^-19 of the row's largest.
#ifndef PREGATE_KERNELS_CUDA_ACTIVATION_FORM_H_
#define PREGATE_KERNELS_CUDA_ACTIVATION_FORM_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace pregate::cuda {

inline constexpr float kUsualScale = 16.0f;
inline constexpr float kUsualLeast = 0.25f;     // largest elements of rows with that scale,
inline constexpr float kUsualMost = 524288.0f;  // the latter not included
inline constexpr int kSumColumns = 32;          // of one sum

struct HalfActivations {
  uint16_t* halves;  // [rows][cols], 16-byte aligned
  // [cols / 32][sum_stride]: the sum of 32 halves of a row, rows side by side. What stands behind
  // the last row is undefined. From four rows on, lines are multiples of 16 bytes.
  float* sums;
  float* scales;  // [rows]: what the row was divided by
  int sum_stride;
};

// Those in the memory of a matrix [rows, cols], which is 4-byte aligned.
PREGATE_HOST_DEVICE inline HalfActivations HalvesIn(const void* data, int64_t rows, int64_t cols) {
  const auto start = (reinterpret_cast<uintptr_t>(data) + 15) / 16 * 16;
  HalfActivations form;
  form.halves = reinterpret_cast<uint16_t*>(start);
  form.sums = reinterpret_cast<float*>(form.halves + rows * cols);
  const int64_t multiple = rows < 4 ? 2 : 4;
  form.sum_stride = static_cast<int>((rows + multiple - 1) / multiple * multiple);
  form.scales = form.sums + cols / kSumColumns * form.sum_stride;
  return form;
}
// A row and 32 columns have 92 bytes (RowBytes): for halves, a sum for up to two rows, which are
// one, a scale, and 12 bytes before the first half.
static_assert(32 * 2 + 2 * 4 + 4 + 12 <= 92);

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_ACTIVATION_FORM_H_
