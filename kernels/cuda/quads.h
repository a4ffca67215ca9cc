// Rows of floats, four elements (a quad) at a time: one access where addresses are multiples of 16
// bytes, four where they are not. The arithmetic is the same, so that a row's bits do not depend on
// where it lies.
#ifndef PREGATE_KERNELS_CUDA_QUADS_H_
#define PREGATE_KERNELS_CUDA_QUADS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/gpu.h"
#include "kernels/tensor.h"

namespace pregate {

struct Quad {
  float e[4];
};

inline int64_t QuadsOf(int64_t cols) { return (cols + 3) / 4; }

// Whether quads of every row can be accessed at once.
inline bool IsWide(ConstTensor x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && (x.stride % 16 == 0 || x.rows <= 1);
}

// Elements [column, column + 4) of a row, column % 4 == 0; zeros behind its end at `cols`.
__device__ __forceinline__ Quad LoadQuad(const float* row, int64_t column, int64_t cols,
                                         bool wide) {
  if (wide && column + 4 <= cols) {
    const float4 v = *reinterpret_cast<const float4*>(row + column);
    return {{v.x, v.y, v.z, v.w}};
  }
  Quad quad;
  for (int i = 0; i < 4; ++i) quad.e[i] = column + i < cols ? row[column + i] : 0.0f;
  return quad;
}

// Those before the row's end.
__device__ __forceinline__ void StoreQuad(float* row, int64_t column, int64_t cols, bool wide,
                                          const Quad& quad) {
  if (wide && column + 4 <= cols) {
    *reinterpret_cast<float4*>(row + column) = {quad.e[0], quad.e[1], quad.e[2], quad.e[3]};
    return;
  }
  for (int i = 0; i < 4; ++i) {
    if (column + i < cols) row[column + i] = quad.e[i];
  }
}

// A thread for each quad of each row: it is that at column QuadColumn() of row QuadRow(), where
// there is one. A warp has a piece of one row, or several short rows.
inline Grid QuadGrid(int64_t rows, int64_t cols) {
  constexpr int64_t kThreads = 256;
  int64_t along = 1;
  while (along < kWarp && along < QuadsOf(cols)) along *= 2;
  const int64_t across = std::min(kThreads / along, std::max<int64_t>(rows, 1));
  return {{Blocks(rows, across), Blocks(QuadsOf(cols), along)},
          {static_cast<unsigned>(along), static_cast<unsigned>(across)}};
}
__device__ __forceinline__ int64_t QuadRow() {
  return int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
}
__device__ __forceinline__ int64_t QuadColumn() {
  return 4 * (int64_t{blockIdx.y} * blockDim.x + threadIdx.x);
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_QUADS_H_
