// Entries that treat each element, or each row, alone.
#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void AddKernel(ConstTensor a, ConstTensor b, Tensor out) {
  const int64_t column = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (column >= out.cols) return;
  for (int64_t r = blockIdx.y; r < out.rows; r += gridDim.y) {
    out.Row<float>(r)[column] = a.Row<float>(r)[column] + b.Row<float>(r)[column];
  }
}

}  // namespace

void Add(Device& device, ConstTensor a, ConstTensor b, Tensor out) {
  const auto rows = static_cast<unsigned>(out.rows < 65535 ? out.rows : 65535);
  Launch(device, AddKernel, {{Blocks(out.cols, kThreads), rows}, {kThreads}}, a, b, out);
}

}  // namespace pregate::cuda
