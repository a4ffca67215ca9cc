// Entries that treat each element alone: sums and copies of rows.
#include <cassert>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/quads.h"

namespace pregate::cuda {
namespace {

__global__ void AddKernel(ConstTensor a, ConstTensor b, Tensor out, bool wide) {
  const int64_t r = QuadRow(), column = QuadColumn(), cols = out.cols;
  if (r >= out.rows || column >= cols) return;
  Quad sum = LoadQuad(a.Row<float>(r), column, cols, wide);
  const Quad other = LoadQuad(b.Row<float>(r), column, cols, wide);
  for (int i = 0; i < 4; ++i) sum.e[i] += other.e[i];
  StoreQuad(out.Row<float>(r), column, cols, wide, sum);
}

__global__ void GatherKernel(ConstTensor x, const int32_t* rows, Tensor out, bool wide) {
  const int64_t r = QuadRow(), column = QuadColumn(), cols = out.cols;
  if (r >= out.rows || column >= cols) return;
  StoreQuad(out.Row<float>(r), column, cols, wide,
            LoadQuad(x.Row<float>(rows[r]), column, cols, wide));
}

}  // namespace

void Add(Device& device, ConstTensor a, ConstTensor b, Tensor out) {
  assert(a.rows == out.rows && b.rows == out.rows && a.cols == out.cols && b.cols == out.cols);
  Launch(device, AddKernel, QuadGrid(out.rows, out.cols), a, b, out,
         IsWide(a) && IsWide(b) && IsWide(out));
}

void GatherRows(Device& device, ConstTensor x, const int32_t* rows, Tensor out) {
  assert(x.cols == out.cols);
  Launch(device, GatherKernel, QuadGrid(out.rows, out.cols), x, rows, out,
         IsWide(x) && IsWide(out));
}

}  // namespace pregate::cuda
