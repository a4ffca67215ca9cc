// Products on the tensor cores with many rows: weights are read and unpacked once for 64 of them.
#include <cassert>

#include "kernels/cuda/matmul_half.h"
#include "kernels/cuda/weight_types.h"

namespace pregate::cuda {
namespace {

constexpr int kWarps = kManyTiles;
constexpr int kThreads = kWarp * kWarps;
constexpr int kGroups = kManyRows / kGroupRows;
constexpr int kStageChunks = 2;  // that arrive in shared memory together
constexpr int kStages = 3;       // that are there or on their way

// A chunk in shared memory: 64 bytes a row, in four units of which those of rows 2 and 3 of each
// four have changed places in pairs, so that lanes that read at once meet different banks; then the
// rows' sums.
constexpr int kUnits = 4;
constexpr int kUnitBytes = 16;
constexpr int kRowBytes = kUnits * kUnitBytes;
constexpr int kChunkBytes = kManyRows * kRowBytes + kManyRows * int{sizeof(float)};
constexpr int kStageBytes = kStageChunks * kChunkBytes;
constexpr int kSums = kPanels * kGroups * 4;  // of a lane

__device__ __forceinline__ int UnitAt(int row, int unit) {
  return row * kRowBytes + (unit ^ (row & 2)) * kUnitBytes;
}

// Rows [first_row, first_row + 64) of x.
struct Rows {
  HalfActivations x;
  int64_t cols;
  int rows;  // of x
  int first_row;
  int chunks;
};

// Asks for a stage of chunks; what is not there becomes zeros.
template <bool kWithSums>
__device__ __forceinline__ void CopyStage(const Rows& own, int stage, char* shared) {
  const auto thread = static_cast<int>(threadIdx.x);
  for (int c = 0; c < kStageChunks; ++c) {
    const int chunk = stage * kStageChunks + c;
    if (chunk >= own.chunks) break;
    char* const to = shared + stage % kStages * kStageBytes + c * kChunkBytes;
    for (int i = thread; i < kManyRows * kUnits; i += kThreads) {
      const int r = i / kUnits, unit = i % kUnits;
      const bool there = own.first_row + r < own.rows;
      const int64_t row = there ? own.first_row + r : own.first_row;
      const uint16_t* const from = own.x.halves + row * own.cols + chunk * kChunkColumns + unit * 8;
      CopyAsync16(to + UnitAt(r, unit), from, there ? 16 : 0);
    }
    if (kWithSums && thread < kManyRows / 4) {
      const int first = own.first_row + 4 * thread;
      const bool there = first < own.x.sum_stride;
      const float* const line = own.x.sums + int64_t{chunk} * own.x.sum_stride;
      CopyAsync16(to + kManyRows * kRowBytes + thread * kUnitBytes,
                  line + (there ? first : own.first_row), there ? 16 : 0);
    }
  }
}

// A lane's part of a group of a chunk in shared memory.
template <DType kType>
__device__ __forceinline__ RightOperand ReadRight(const char* chunk, int group, int lane) {
  RightOperand operand = {};
  const int row = group * kGroupRows + lane / 4, t = lane % 4;
  if constexpr (LaneWeights<kType>::kSixteen) {
    const int byte = t % 2 * 8;
    const auto a = *reinterpret_cast<const uint2*>(chunk + UnitAt(row, t / 2) + byte);
    const auto b = *reinterpret_cast<const uint2*>(chunk + UnitAt(row, 2 + t / 2) + byte);
    operand = {{a.x, a.y, b.x, b.y}, {}};
  } else {
    const auto v = *reinterpret_cast<const uint4*>(chunk + UnitAt(row, t));
    operand = {{v.x, v.y, v.z, v.w}, {}};
  }
  if constexpr (LaneWeights<kType>::kMinimum) {
    const char* const sums = chunk + kManyRows * kRowBytes;
    const auto v = *reinterpret_cast<const float2*>(sums + (group * kGroupRows + 2 * t) * 4);
    operand.sums[0] = v.x;
    operand.sums[1] = v.y;
  }
  return operand;
}

// Adds a slice's sums to the thread's totals, which lie `kThreads` apart, and clears them.
__device__ __forceinline__ void CloseSlice(LaneSums<kGroups>& sums, float* totals) {
  PREGATE_UNROLL
  for (int i = 0; i < kSums; ++i) {
    float& sum = sums[i / (4 * kGroups)][i / 4 % kGroups][i % 4];
    totals[i * kThreads] = __fadd_rn(totals[i * kThreads], sum);
    sum = 0.0f;
  }
}

// A block computes 128 outputs of 64 rows, a warp 32 of them. A warp goes through all columns,
// slice by slice, and adds as the kernel for few rows does.
template <DType kType>
__global__ void __launch_bounds__(kThreads, 2)
    ManyRowsKernel(const __grid_constant__ TaskList list) {
  using Weights = LaneWeights<kType>;
  const ProductTask& task = TaskOfBlock(list, static_cast<int>(blockIdx.x));
  const BlockPart part = PartOfBlock(task, static_cast<int>(blockIdx.x), kManyRows);
  if (part.first_row >= part.end_row) return;
  const int groups = (part.end_row - part.first_row + kGroupRows - 1) / kGroupRows;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int tile = part.tile_block * kManyTiles + static_cast<int>(threadIdx.x) / kWarp;
  const bool works = tile < task.tiles;
  const WeightView weight = ViewWeight<kType>(part.weight, task.weight_rows, task.weight_cols);
  const int weight_tile = works ? WeightTile(task, tile) : 0;
  const Rows own = {HalvesIn(task.x, task.rows, task.cols), task.cols, task.rows, part.first_row,
                    task.cols / kChunkColumns};

  char* const shared = SharedMemory();
  float* const totals = SharedArray<float>(kStages * kStageBytes) + threadIdx.x;
  for (int i = 0; i < kSums; ++i) totals[i * kThreads] = 0.0f;
  for (int stage = 0; stage < kStages - 1; ++stage) {
    CopyStage<Weights::kMinimum>(own, stage, shared);
    CommitCopies();
  }
  // Of the next chunk: on its way while this one is multiplied.
  Weights next;
  if (works) next.Load(weight, weight_tile, WeightChunk(task, 0), lane);

  LaneSums<kGroups> sums = {};
  int slice = 0, slice_end = SliceBegin(own.chunks, 1);
  for (int chunk = 0; chunk < own.chunks; ++chunk) {
    const int stage = chunk / kStageChunks;
    if (chunk % kStageChunks == 0) {
      WaitForCopies<kStages - 2>();
      __syncthreads();  // the stage is there, and all have read the one before it
      CopyStage<Weights::kMinimum>(own, stage + kStages - 1, shared);
      CommitCopies();
    }
    if (!works) continue;
    const Weights weights = next;
    if (chunk + 1 < own.chunks) {
      next.Load(weight, weight_tile, WeightChunk(task, chunk + 1), lane);
    }
    if (chunk == slice_end) {
      CloseSlice(sums, totals);
      while (chunk == slice_end) slice_end = SliceBegin(own.chunks, ++slice + 1);
    }
    const char* const at =
        shared + stage % kStages * kStageBytes + chunk % kStageChunks * kChunkBytes;
    MultiplyChunk<kType, kGroups>(
        weights, groups, [&](int group) { return ReadRight<kType>(at, group, lane); }, sums);
  }
  if (!works) return;
  CloseSlice(sums, totals);
  for (int i = 0; i < kSums; ++i) {
    const int panel = i / (4 * kGroups), group = i / 4 % kGroups, e = i % 4;
    StoreScaled(task, part, own.x, weight, own.first_row + RowOf(group, e, lane),
                tile * kTileRows + OutputOf(panel, e, lane), totals[i * kThreads]);
  }
}

template <DType kType>
void LaunchType(Device& device, const TaskList& list) {
  constexpr size_t kShared = kStages * kStageBytes + kSums * kThreads * sizeof(float);
  Launch(device, ManyRowsKernel<kType>, {{static_cast<unsigned>(list.blocks)}, {kThreads}, kShared},
         list);
}

}  // namespace

void LaunchManyRows(Device& device, DType dtype, [[maybe_unused]] int block_rows,
                    const TaskList& list) {
  assert(block_rows == kManyRows);
  CallForHalvesType(dtype, [&]<DType kType>() { LaunchType<kType>(device, list); });
}

}  // namespace pregate::cuda
