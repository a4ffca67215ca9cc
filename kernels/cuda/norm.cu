// Normalisation of rows. A warp has a short row, a block of whole warps a longer one: how many
// depends on the row's length alone, and with it the order of every sum.
#include <algorithm>
#include <cassert>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/quads.h"

namespace pregate::cuda {
namespace {

// Quads of its row that a thread keeps in registers; of a row that is too long for all of its
// threads' registers the rest is read again.
constexpr int kHeld = 4;
constexpr int kMaxWarps = 16;  // of a row
constexpr int kShortRows = 4;  // in a block

Grid NormGrid(int64_t rows, int64_t cols) {
  constexpr int64_t kWarpCols = int64_t{kHeld} * 4 * kWarp;
  const int64_t warps = (cols + kWarpCols - 1) / kWarpCols;
  if (warps <= 1) return {{Blocks(rows, kShortRows)}, {kWarp, kShortRows}};
  return {{Blocks(rows, 1)},
          {static_cast<unsigned>(kWarp * std::min<int64_t>(warps, kMaxWarps))},
          (kWarp + 1) * sizeof(float)};
}

__device__ __forceinline__ float SumOfRow(float value) {
  return blockDim.x == kWarp ? WarpSum(value) : BlockSum(value, SharedArray<float>());
}

// The columns of the j-th quad of this thread.
__device__ __forceinline__ int64_t ColumnOf(int64_t j) {
  return 4 * (j * blockDim.x + threadIdx.x);
}

template <typename Read>
__device__ __forceinline__ void Hold(Quad (&held)[kHeld], Read read) {
  for (int j = 0; j < kHeld; ++j) held[j] = read(ColumnOf(j));
}

// body(column, quad) for the thread's quads, those behind the row's end (zeros) included.
template <typename Read, typename Body>
__device__ __forceinline__ void ForEachQuad(const Quad (&held)[kHeld], int64_t cols, Read read,
                                            Body body) {
  for (int j = 0; j < kHeld; ++j) body(ColumnOf(j), held[j]);
  for (int64_t j = kHeld; ColumnOf(j) < cols; ++j) body(ColumnOf(j), read(ColumnOf(j)));
}

__global__ void __launch_bounds__(kMaxWarps* kWarp)
    RmsNormKernel(ConstTensor x, ConstTensor weight, float weight_offset, float eps, Tensor out,
                  bool wide) {
  const int64_t r = int64_t{blockIdx.x} * blockDim.y + threadIdx.y, cols = x.cols;
  if (r >= x.rows) return;
  const auto read = [&](int64_t column) { return LoadQuad(x.Row<float>(r), column, cols, wide); };
  const auto read_weight = [&](int64_t column) {
    return LoadQuad(weight.Row<float>(0), column, cols, wide);
  };
  // With few rows the kernel lasts as long as its loads take, one after the other: those of the
  // weights, which come from memory in every step, do not wait for the sum.
  Quad held[kHeld], held_weights[kHeld];
  Hold(held, read);
  Hold(held_weights, read_weight);
  float squares = 0;
  ForEachQuad(held, cols, read, [&](int64_t, const Quad& v) {
    for (const float element : v.e) squares = fmaf(element, element, squares);
  });
  const float scale = 1.0f / sqrtf(SumOfRow(squares) / static_cast<float>(cols) + eps);
  const auto write = [&](int64_t column, Quad v, const Quad& w) {
    if (column >= cols) return;
    for (int i = 0; i < 4; ++i) v.e[i] = v.e[i] * scale * (w.e[i] + weight_offset);
    StoreQuad(out.Row<float>(r), column, cols, wide, v);
  };
  for (int j = 0; j < kHeld; ++j) write(ColumnOf(j), held[j], held_weights[j]);
  for (int64_t j = kHeld; ColumnOf(j) < cols; ++j) {
    write(ColumnOf(j), read(ColumnOf(j)), read_weight(ColumnOf(j)));
  }
}

__global__ void __launch_bounds__(kMaxWarps* kWarp)
    LayerNormKernel(ConstTensor x, ConstTensor residual, ConstTensor weight, ConstTensor bias,
                    float eps, Tensor out, bool wide) {
  const int64_t r = int64_t{blockIdx.x} * blockDim.y + threadIdx.y, cols = x.cols;
  if (r >= x.rows) return;
  const auto read = [&](int64_t column) {
    Quad v = LoadQuad(x.Row<float>(r), column, cols, wide);
    if (residual) {
      const Quad added = LoadQuad(residual.Row<float>(r), column, cols, wide);
      for (int i = 0; i < 4; ++i) v.e[i] += added.e[i];
    }
    return v;
  };
  Quad held[kHeld];
  Hold(held, read);
  float sum = 0, squares = 0;
  ForEachQuad(held, cols, read, [&](int64_t, const Quad& v) {
    for (const float element : v.e) sum += element;
  });
  const float mean = SumOfRow(sum) / static_cast<float>(cols);
  ForEachQuad(held, cols, read, [&](int64_t column, const Quad& v) {
    for (int i = 0; i < 4; ++i) {
      const float deviation = column + i < cols ? v.e[i] - mean : 0.0f;
      squares = fmaf(deviation, deviation, squares);
    }
  });
  const float scale = 1.0f / sqrtf(SumOfRow(squares) / static_cast<float>(cols) + eps);
  ForEachQuad(held, cols, read, [&](int64_t column, Quad v) {
    if (column >= cols) return;
    const Quad w = LoadQuad(weight.Row<float>(0), column, cols, wide);
    const Quad b = LoadQuad(bias.Row<float>(0), column, cols, wide);
    for (int i = 0; i < 4; ++i) v.e[i] = fmaf((v.e[i] - mean) * scale, w.e[i], b.e[i]);
    StoreQuad(out.Row<float>(r), column, cols, wide, v);
  });
}

}  // namespace

void RmsNorm(Device& device, ConstTensor x, ConstTensor weight, float weight_offset, float eps,
             Tensor out) {
  assert(x.rows == out.rows && x.cols == out.cols && weight.cols == x.cols);
  Launch(device, RmsNormKernel, NormGrid(x.rows, x.cols), x, weight, weight_offset, eps, out,
         IsWide(x) && IsWide(weight) && IsWide(out));
}

void LayerNorm(Device& device, ConstTensor x, ConstTensor residual, ConstTensor weight,
               ConstTensor bias, float eps, Tensor out) {
  assert(x.rows == out.rows && x.cols == out.cols && weight.cols == x.cols && bias.cols == x.cols);
  assert(!residual || (residual.rows == x.rows && residual.cols == x.cols));
  Launch(device, LayerNormKernel, NormGrid(x.rows, x.cols), x, residual, weight, bias, eps, out,
         IsWide(x) && (!residual || IsWide(residual)) && IsWide(weight) && IsWide(bias) &&
             IsWide(out));
}

}  // namespace pregate::cuda
