// Rotary position embeddings: Su et al., "RoFormer", section 3.4.2.
#include <cassert>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/quads.h"

namespace pregate::cuda {
namespace {

// A thread for each angle.
constexpr int kAngles = 32;  // of a block along a row
constexpr int kRows = 4;

__global__ void RopeTableKernel(const int32_t* positions, const float* inv_freq, float magnitude,
                                Tensor cos_sin) {
  const int64_t r = int64_t{blockIdx.x} * kRows + threadIdx.y;
  const int64_t i = int64_t{blockIdx.y} * kAngles + threadIdx.x;
  if (r >= cos_sin.rows || 2 * i >= cos_sin.cols) return;
  const double angle = double{inv_freq[i]} * positions[r];
  double sine, cosine;
  sincos(angle, &sine, &cosine);
  float* const pair = cos_sin.Row<float>(r) + 2 * i;
  pair[0] = static_cast<float>(magnitude * cosine);
  pair[1] = static_cast<float>(magnitude * sine);
}

__device__ __forceinline__ void Rotate(float& first, float& second, float cosine, float sine) {
  const float a = first, b = second;
  first = fmaf(-b, sine, a * cosine);
  second = fmaf(a, sine, b * cosine);
}

// Where the heads of x stand: a thread's "row" is a head of a row.
struct HeadPlace {
  uint32_t row, head;
};
__device__ __forceinline__ HeadPlace PlaceOf(int64_t line, uint32_t heads) {
  const auto at = static_cast<uint32_t>(line);
  return {at / heads, at % heads};
}

// Four pairs (x[i], x[half + i]) of a head for each thread.
__global__ void RopeHalvesKernel(Tensor x, uint32_t heads, int32_t head_dim, ConstTensor cos_sin,
                                 bool wide) {
  const int64_t line = QuadRow(), i = QuadColumn(), half = cos_sin.cols / 2;
  if (line >= x.rows * heads || i >= half) return;
  const auto [row, head] = PlaceOf(line, heads);
  const float* const table = cos_sin.Row<float>(row);
  float* const low = x.Row<float>(row) + int64_t{head} * head_dim;
  float* const high = low + half;
  const Quad turns[2] = {LoadQuad(table, 2 * i, cos_sin.cols, wide),
                         LoadQuad(table, 2 * i + 4, cos_sin.cols, wide)};
  Quad first = LoadQuad(low, i, half, wide), second = LoadQuad(high, i, half, wide);
  for (int j = 0; j < 4; ++j) {
    const float* const turn = &turns[j / 2].e[j % 2 * 2];
    Rotate(first.e[j], second.e[j], turn[0], turn[1]);
  }
  StoreQuad(low, i, half, wide, first);
  StoreQuad(high, i, half, wide, second);
}

// Two pairs (x[2i], x[2i + 1]) of a head for each thread.
__global__ void RopeInterleavedKernel(Tensor x, uint32_t heads, int32_t head_dim,
                                      ConstTensor cos_sin, bool wide) {
  const int64_t line = QuadRow(), i = QuadColumn(), rotated = cos_sin.cols;
  if (line >= x.rows * heads || i >= rotated) return;
  const auto [row, head] = PlaceOf(line, heads);
  float* const elements = x.Row<float>(row) + int64_t{head} * head_dim;
  const Quad turns = LoadQuad(cos_sin.Row<float>(row), i, rotated, wide);
  Quad pairs = LoadQuad(elements, i, rotated, wide);
  Rotate(pairs.e[0], pairs.e[1], turns.e[0], turns.e[1]);
  Rotate(pairs.e[2], pairs.e[3], turns.e[2], turns.e[3]);
  StoreQuad(elements, i, rotated, wide, pairs);
}

}  // namespace

void RopeTable(Device& device, const int32_t* positions, const float* inv_freq, float magnitude,
               Tensor cos_sin) {
  const Grid grid = {{Blocks(cos_sin.rows, kRows), Blocks(cos_sin.cols / 2, kAngles)},
                     {kAngles, kRows}};
  Launch(device, RopeTableKernel, grid, positions, inv_freq, magnitude, cos_sin);
}

void Rope(Device& device, Tensor x, int32_t head_dim, ConstTensor cos_sin, RopeStyle style) {
  assert(x.rows == cos_sin.rows && x.cols % head_dim == 0);
  assert(cos_sin.cols <= head_dim && cos_sin.cols % 2 == 0);
  const int64_t heads = x.cols / head_dim, half = cos_sin.cols / 2;
  assert(x.rows * heads < int64_t{1} << 32);
  const bool wide = IsWide(x) && IsWide(cos_sin) && head_dim % 4 == 0;
  if (style == RopeStyle::kHalves) {
    Launch(device, RopeHalvesKernel, QuadGrid(x.rows * heads, half), x,
           static_cast<uint32_t>(heads), head_dim, cos_sin, wide && half % 4 == 0);
  } else {
    Launch(device, RopeInterleavedKernel, QuadGrid(x.rows * heads, cos_sin.cols), x,
           static_cast<uint32_t>(heads), head_dim, cos_sin, wide);
  }
}

}  // namespace pregate::cuda
