// Products on the tensor cores with few rows: the time is that of reading the weights.
#include <cassert>

#include "kernels/cuda/matmul_half.h"
#include "kernels/cuda/weight_types.h"

namespace pregate::cuda {
namespace {

template <DType kType>
__device__ __forceinline__ RightOperand LoadRight(const HalfActivations& x, const ProductTask& task,
                                                  int first_row, int chunk, int lane) {
  RightOperand operand = {};
  const int row = first_row + lane / 4, t = lane % 4;
  if (row < task.rows) {
    const uint16_t* const columns =
        x.halves + int64_t{row} * task.cols + chunk * kChunkColumns + LaneColumn<kType>(t, 0);
    if constexpr (LaneWeights<kType>::kSixteen) {
      const uint2 a = __ldg(reinterpret_cast<const uint2*>(columns));
      const uint2 b = __ldg(reinterpret_cast<const uint2*>(columns + 16));
      operand = {{a.x, a.y, b.x, b.y}, {}};
    } else {
      const uint4 v = __ldg(reinterpret_cast<const uint4*>(columns));
      operand = {{v.x, v.y, v.z, v.w}, {}};
    }
  }
  if constexpr (LaneWeights<kType>::kMinimum) {
    const int first = first_row + 2 * t;
    if (first < x.sum_stride) {
      const float2 v =
          __ldg(reinterpret_cast<const float2*>(x.sums + int64_t{chunk} * x.sum_stride + first));
      operand.sums[0] = v.x;
      operand.sums[1] = v.y;
    }
  }
  return operand;
}

// Chunks of which a warp has the weights under way at once, and blocks that a multiprocessor's
// registers hold for that.
template <DType kType, int kGroups>
constexpr bool kWide = kGroups == 4 && LaneWeights<kType>::kMinimum;
template <DType kType, int kGroups>
constexpr int kAheadOf = kWide<kType, kGroups> || (kGroups == 1 && LaneWeights<kType>::kScaled) ? 4
                                                                                                : 2;
template <DType kType, int kGroups>
constexpr int kBlocksAtOnce = kWide<kType, kGroups> ? 1 : 2;

// A block computes 32 outputs of 8 kGroups rows, a warp one slice of the columns.
template <DType kType, int kGroups>
__global__ void __launch_bounds__(kWarp* kWarpsOfSlices, kBlocksAtOnce<kType, kGroups>)
    FewRowsKernel(const __grid_constant__ TaskList list) {
  constexpr int kAhead = kAheadOf<kType, kGroups>;
  constexpr bool kRightAhead = kGroups < 4;  // while registers last
  const ProductTask& task = TaskOfBlock(list, static_cast<int>(blockIdx.x));
  const BlockPart part = PartOfBlock(task, static_cast<int>(blockIdx.x), kGroups * kGroupRows);
  if (part.first_row >= part.end_row) return;
  const int tile = part.tile_block, first_row = part.first_row;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int slice = static_cast<int>(threadIdx.x) / kWarp;
  const int groups = (part.end_row - first_row + kGroupRows - 1) / kGroupRows;
  const WeightView weight = ViewWeight<kType>(part.weight, task.weight_rows, task.weight_cols);
  const HalfActivations x = HalvesIn(task.x, task.rows, task.cols);
  const int weight_tile = WeightTile(task, tile);

  LaneSums<kGroups> sums = {};
  const int chunks = task.cols / kChunkColumns;
  const int end = SliceBegin(chunks, slice + 1);
  for (int c = SliceBegin(chunks, slice); c < end; c += kAhead) {
    LaneWeights<kType> weights[kAhead];
    RightOperand right[kAhead][kRightAhead ? kGroups : 1];
    PREGATE_UNROLL
    for (int u = 0; u < kAhead; ++u) {
      if (c + u >= end) break;
      weights[u].Load(weight, weight_tile, WeightChunk(task, c + u), lane);
      PREGATE_UNROLL
      for (int group = 0; group < (kRightAhead ? kGroups : 0); ++group) {
        right[u][group] = LoadRight<kType>(x, task, first_row + group * kGroupRows, c + u, lane);
      }
    }
    PREGATE_UNROLL
    for (int u = 0; u < kAhead; ++u) {
      if (c + u >= end) break;
      const auto right_of = [&](int group) {
        if constexpr (kRightAhead) return right[u][group];
        return LoadRight<kType>(x, task, first_row + group * kGroupRows, c + u, lane);
      };
      MultiplyChunk<kType, kGroups>(weights[u], groups, right_of, sums);
    }
  }

  float* const room = SharedArray<float>();  // [slice][panel][group][e][lane]
  constexpr int kElements = kPanels * kGroups * 4;
  PREGATE_UNROLL
  for (int panel = 0; panel < kPanels; ++panel) {
    PREGATE_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      PREGATE_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int element = (panel * kGroups + group) * 4 + e;
        room[(slice * kElements + element) * kWarp + lane] = sums[panel][group][e];
      }
    }
  }
  __syncthreads();
  for (int element = slice; element < kElements; element += kSlices) {
    float total = 0.0f;
    for (int s = 0; s < kSlices; ++s) {
      total = __fadd_rn(total, room[(s * kElements + element) * kWarp + lane]);
    }
    const int panel = element / (4 * kGroups), group = element / 4 % kGroups, e = element % 4;
    StoreScaled(task, part, x, weight, first_row + RowOf(group, e, lane),
                tile * kTileRows + OutputOf(panel, e, lane), total);
  }
}

template <DType kType>
void LaunchType(Device& device, int block_rows, const TaskList& list) {
  const auto launch = [&](auto* kernel) { LaunchSlices(device, kernel, block_rows, list); };
  switch (block_rows) {
    case 8:
      return launch(FewRowsKernel<kType, 1>);
    case 16:
      return launch(FewRowsKernel<kType, 2>);
    default:
      assert(block_rows == kMostFewRows);
      return launch(FewRowsKernel<kType, kMostFewRows / 8>);
  }
}

}  // namespace

void LaunchFewRows(Device& device, DType dtype, int block_rows, const TaskList& list) {
  CallForHalvesType(dtype, [&]<DType kType>() { LaunchType<kType>(device, block_rows, list); });
}

}  // namespace pregate::cuda
