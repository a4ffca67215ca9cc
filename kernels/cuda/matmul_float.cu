// Products with activations that are floats: multiply-adds in float, for every type of weight.
#include "kernels/cuda/lane_weights.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/weight_types.h"

namespace pregate::cuda {
namespace {

// Elements [column, column + 4) of a row of `cols`, zeros behind the last.
__device__ __forceinline__ float4 LoadFour(const float* row, int column, int cols, bool aligned) {
  if (aligned && column + 4 <= cols) return __ldg(reinterpret_cast<const float4*>(row + column));
  float v[4];
  for (int j = 0; j < 4; ++j) v[j] = column + j < cols ? __ldg(row + column + j) : 0.0f;
  return {v[0], v[1], v[2], v[3]};
}

// A block computes 32 outputs of kRows rows, a warp one slice of the columns, a lane the products
// of its columns. A lane's additions run along its columns, then come those of the four lanes that
// share a row, then those of the slices.
template <DType kType, int kRows>
__global__ void __launch_bounds__(kWarp* kWarpsOfSlices)
    FloatKernel(const __grid_constant__ TaskList list) {
  const ProductTask& task = TaskOfBlock(list, static_cast<int>(blockIdx.x));
  const BlockPart part = PartOfBlock(task, static_cast<int>(blockIdx.x), kRows);
  if (part.first_row >= part.end_row) return;
  const int tile = part.tile_block, first_row = part.first_row;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int slice = static_cast<int>(threadIdx.x) / kWarp;
  const WeightView weight = ViewWeight<kType>(part.weight, task.weight_rows, task.weight_cols);
  const int weight_tile = WeightTile(task, tile);
  const float* const x = static_cast<const float*>(task.x);

  float sums[kLaneRows][kRows] = {};
  const auto chunks = static_cast<int>(ChunksOf(task.cols));
  for (int c = SliceBegin(chunks, slice); c < SliceBegin(chunks, slice + 1); ++c) {
    LaneWeights<kType> weights;
    weights.Load(weight, weight_tile, WeightChunk(task, c), lane);
    float w[kLaneRows][kLaneColumns];
    for (int i = 0; i < kLaneRows; ++i) weights.Values(i, w[i]);
    for (int r = 0; r < kRows; ++r) {
      if (first_row + r >= task.rows) break;
      const float* const row = x + (first_row + r) * task.x_stride;
      for (int part = 0; part < 2; ++part) {
        const int column = c * kChunkColumns + LaneColumn<kType>(lane % 4, part * 4);
        const float4 four = LoadFour(row, column, task.cols, task.aligned);
        for (int i = 0; i < kLaneRows; ++i) {
          float sum = sums[i][r];
          sum = __fmaf_rn(w[i][part * 4], four.x, sum);
          sum = __fmaf_rn(w[i][part * 4 + 1], four.y, sum);
          sum = __fmaf_rn(w[i][part * 4 + 2], four.z, sum);
          sums[i][r] = __fmaf_rn(w[i][part * 4 + 3], four.w, sum);
        }
      }
    }
  }

  float* const room = SharedArray<float>();  // [slice][row][output]
  for (int i = 0; i < kLaneRows; ++i) {
    for (int r = 0; r < kRows; ++r) {
      float sum = sums[i][r];
      sum = __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, 1));
      sum = __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, 2));
      if (lane % 4 == r % 4) room[(slice * kRows + r) * kTileRows + lane / 4 + 8 * i] = sum;
    }
  }
  __syncthreads();
  if (slice >= kRows) return;
  float total = 0.0f;
  for (int s = 0; s < kSlices; ++s) {
    total = __fadd_rn(total, room[(s * kRows + slice) * kTileRows + lane]);
  }
  Store(task, part, first_row + slice, tile * kTileRows + lane, __fmul_rn(total, weight.factor));
}

template <DType kType>
void LaunchType(Device& device, int block_rows, const TaskList& list) {
  const auto launch = [&](auto* kernel) { LaunchSlices(device, kernel, block_rows, list); };
  block_rows == 1 ? launch(FloatKernel<kType, 1>) : launch(FloatKernel<kType, kFloatRows>);
}

}  // namespace

void LaunchFloat(Device& device, DType dtype, int block_rows, const TaskList& list) {
  CallForWeightType(dtype, [&]<DType kType>() { LaunchType<kType>(device, block_rows, list); });
}

}  // namespace pregate::cuda
