// Activations as halves, see activation_form.h.
#include <cassert>

#include "kernels/cuda/activation_form.h"
#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/quads.h"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kMostWarps = kThreads / kWarp;

struct Matrix {
  const float* x;
  void* out;
  int64_t stride;  // elements from row to row of x
  int32_t rows, cols;
  int32_t first_row;  // among those of the launch
  bool aligned;       // rows of x start at multiples of 16 bytes
};
constexpr int kMaxMatrices = 64;
struct MatrixList {
  int32_t count;
  Matrix matrices[kMaxMatrices];
};
static_assert(sizeof(MatrixList) <= 4096);

// The largest of the block's values, in every thread.
__device__ __forceinline__ float BlockMax(float value, float* room) {
  value = WarpMax(value);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (lane == 0) room[threadIdx.x / kWarp] = value;
  __syncthreads();
  return WarpMax(lane < static_cast<int>(blockDim.x) / kWarp ? room[lane] : 0.0f);
}

// What a row whose largest element has the size `largest` is divided by.
__device__ __forceinline__ float ScaleOf(float largest) {
  constexpr float kInfinity = __builtin_huge_valf();
  if (!(largest > 0.0f) || !(largest < kInfinity)) return kUsualScale;
  if (largest >= kUsualLeast && largest < kUsualMost) return kUsualScale;
  const auto exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
  // Not so small that its inverse would be infinite.
  return __uint_as_float(static_cast<uint32_t>((exponent < -100 ? -100 : exponent) - 14 + 127)
                         << 23);
}

// A block for each row, four elements for a thread at a time.
__global__ void __launch_bounds__(kThreads)
    QuantizeKernel(const __grid_constant__ MatrixList list) {
  int index = list.count - 1;
  while (list.matrices[index].first_row > static_cast<int>(blockIdx.x)) --index;
  const Matrix& matrix = list.matrices[index];
  const int r = static_cast<int>(blockIdx.x) - matrix.first_row;
  const float* const x = matrix.x + r * matrix.stride;
  const HalfActivations out = HalvesIn(matrix.out, matrix.rows, matrix.cols);
  const int fours = matrix.cols / 4;
  const auto thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);

  float largest = 0.0f;
  for (int i = thread; i < fours; i += threads) {
    const Quad v = LoadQuad(x, 4 * i, matrix.cols, matrix.aligned);
    for (const float element : v.e) largest = fmaxf(largest, fabsf(element));
  }
  const float scale = ScaleOf(BlockMax(largest, SharedArray<float>()));
  if (thread == 0) out.scales[r] = scale;

  const float inverse = 1.0f / scale;
  uint16_t* const halves = out.halves + int64_t{r} * matrix.cols;
  for (int first = 0; first < fours; first += threads) {
    const int i = first + thread;
    float sum = 0.0f;
    if (i < fours) {
      const Quad v = LoadQuad(x, 4 * i, matrix.cols, matrix.aligned);
      uint16_t h[4];
      for (int e = 0; e < 4; ++e) h[e] = ToHalf(v.e[e] * inverse);
      sum = FromHalf(h[0]) + FromHalf(h[1]) + FromHalf(h[2]) + FromHalf(h[3]);
      reinterpret_cast<uint2*>(halves)[i] = {h[0] | uint32_t{h[1]} << 16,
                                             h[2] | uint32_t{h[3]} << 16};
    }
    // Eight lanes have the 32 elements of a sum.
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    sum += __shfl_xor_sync(kAllLanes, sum, 4);
    if (i < fours && i % 8 == 0) out.sums[int64_t{i / 8} * out.sum_stride + r] = sum;
  }
}

}  // namespace

void QuantizeRows(Device& device, absl::Span<const Quantization> matrices) {
  MatrixList list = {};
  int32_t rows = 0;
  const auto flush = [&] {
    Launch(device, QuantizeKernel,
           {{static_cast<unsigned>(rows)}, {kThreads}, sizeof(float) * kMostWarps}, list);
    list.count = rows = 0;
  };
  for (const auto& [x, out] : matrices) {
    assert(x.dtype == DType::kF32 && out.rows == x.rows && out.cols == x.cols);
    assert(out.dtype == DType::kQ16Act || out.dtype == DType::kQ8Act);
    assert(x.cols % kSumColumns == 0);
    if (x.rows == 0) continue;
    list.matrices[list.count++] = {x.Row<float>(0),
                                   out.data,
                                   x.stride / int64_t{sizeof(float)},
                                   static_cast<int32_t>(x.rows),
                                   static_cast<int32_t>(x.cols),
                                   rows,
                                   IsWide(x)};
    rows += static_cast<int32_t>(x.rows);
    if (list.count == kMaxMatrices) flush();
  }
  if (list.count > 0) flush();
}

}  // namespace pregate::cuda
