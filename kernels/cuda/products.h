// The products of one call of `matmul`, as kernels see them.
#ifndef PREGATE_KERNELS_CUDA_PRODUCTS_H_
#define PREGATE_KERNELS_CUDA_PRODUCTS_H_

#include <cstdint>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/weight_forms.h"
#include "kernels/kernels.h"

namespace pregate::cuda {

// Columns are cut into this many slices, each summed by itself, then slice by slice: the order of
// additions, which is the same in every kernel, whatever the number of rows.
inline constexpr int kSlices = 8;
inline constexpr int kWarpsOfSlices = kSlices;

// One product, or one for each expert of a layer, whose rows the device alone knows. Lists are the
// device's.
struct ProductTask {
  const void* x;  // rows of floats, or what HalfActivations are made of
  const void* weight;
  const void* const* weights;  // of each expert; null: one product with `weight`
  const int32_t* row_start;    // [experts + 1] into the rows of x
  float* out;
  const float* bias;         // null: none
  const int32_t* out_tiles;  // null: all
  const int32_t* in_tiles;   // null: all
  int64_t x_stride;          // elements from row to row, of floats
  int64_t out_stride;        // elements from row to row
  int32_t rows;              // of x
  int32_t cols;              // of x
  int32_t weight_rows, weight_cols;
  int32_t first_block;  // of the launch's
  int32_t row_blocks;   // the product's blocks are [experts][tile_blocks][row_blocks]
  int32_t tile_blocks;
  int32_t tiles;  // of 32 outputs
  bool accumulate;
  bool aligned;  // rows of x start at multiples of 16 bytes
};

// Those of one launch: a kernel's parameter, which may have 4 KB.
inline constexpr int kMaxTasks = 31;
struct TaskList {
  int32_t count;
  int32_t blocks;
  ProductTask tasks[kMaxTasks];
};
static_assert(sizeof(TaskList) <= 4096);

// The product that a block works for, blocks being dealt out in order.
__device__ __forceinline__ const ProductTask& TaskOfBlock(const TaskList& list, int block) {
  int first = 0, end = list.count;
  while (end - first > 1) {
    const int middle = (first + end) / 2;
    (list.tasks[middle].first_block <= block ? first : end) = middle;
  }
  return list.tasks[first];
}

// What a block computes: outputs of tile block `tile_block` for the rows from `first_row` on that
// are in [begin_row, end_row).
struct BlockPart {
  const void* weight;
  int tile_block;
  int first_row, begin_row, end_row;
};

// Of a block that takes `block_rows` rows. An expert's blocks start at a multiple of four rows, as
// what belongs to rows may have to be aligned.
inline constexpr int kRowAlignment = 4;
__device__ __forceinline__ BlockPart PartOfBlock(const ProductTask& task, int block,
                                                 int block_rows) {
  block -= task.first_block;
  const int row_block = block % task.row_blocks;
  block /= task.row_blocks;
  if (task.weights == nullptr) {
    return {task.weight, block, row_block * block_rows, 0, task.rows};
  }
  const int expert = block / task.tile_blocks;
  const int begin = __ldg(task.row_start + expert);
  return {task.weights[expert], block % task.tile_blocks,
          begin / kRowAlignment * kRowAlignment + row_block * block_rows, begin,
          __ldg(task.row_start + expert + 1)};
}

// The first chunk of a slice of `chunks`.
PREGATE_HOST_DEVICE inline int SliceBegin(int chunks, int slice) {
  return static_cast<int>(int64_t{chunks} * slice / kSlices);
}

__device__ __forceinline__ int WeightTile(const ProductTask& task, int tile) {
  return task.out_tiles == nullptr ? tile : __ldg(task.out_tiles + tile);
}
__device__ __forceinline__ int WeightChunk(const ProductTask& task, int chunk) {
  return task.in_tiles == nullptr ? chunk : __ldg(task.in_tiles + chunk);
}

// Writes the sum for row r of x and output `column`, if they are the block's.
__device__ __forceinline__ void Store(const ProductTask& task, const BlockPart& part, int row,
                                      int column, float sum) {
  const int columns = task.out_tiles == nullptr ? task.weight_rows : task.tiles * kTileRows;
  if (row < part.begin_row || row >= part.end_row || column >= columns) return;
  if (task.bias != nullptr) sum = __fadd_rn(sum, __ldg(task.bias + column));
  float* const out = task.out + row * task.out_stride + column;
  *out = task.accumulate ? __fadd_rn(*out, sum) : sum;
}

// Launches a kernel whose blocks take `block_rows` rows, have a warp for each slice, and sum up the
// slices in shared memory.
template <typename Kernel>
void LaunchSlices(Device& device, Kernel* kernel, int block_rows, const TaskList& list) {
  const size_t shared = sizeof(float) * kSlices * kTileRows * static_cast<size_t>(block_rows);
  Launch(device, kernel, {{static_cast<unsigned>(list.blocks)}, {kWarp * kWarpsOfSlices}, shared},
         list);
}

// Launch a kernel for the tasks of a list, whose blocks take `block_rows` rows of x each.
// matmul_float.cu: x as floats, 1 row or kFloatRows.
inline constexpr int kFloatRows = 8;
void LaunchFloat(Device& device, DType dtype, int block_rows, const TaskList& list);
// matmul_few_rows.cu: x as halves, 8, 16 or kMostFewRows.
inline constexpr int kMostFewRows = 32;
void LaunchFewRows(Device& device, DType dtype, int block_rows, const TaskList& list);
// matmul_many_rows.cu: x as halves, blocks of kManyRows rows by kManyTiles tiles.
inline constexpr int kManyRows = 64;
inline constexpr int kManyTiles = 4;
void LaunchManyRows(Device& device, DType dtype, int block_rows, const TaskList& list);

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_PRODUCTS_H_
