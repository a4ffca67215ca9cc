// How a matrix product is cut: tiles of weight rows times blocks of activation rows. The walk over
// tiles is ordinary code; what happens inside a tile is a function of an instruction set.
//
// A tile computes `lanes` columns of the output, one in each lane of a vector register, for a block
// of activation rows. The weights of a tile are decoded once for all rows of the block. Each output
// has one accumulator that takes the groups of 32 elements in ascending order, whatever the number
// of rows: that is why a row's result does not depend on its batch.
#ifndef PREGATE_KERNELS_QUANT_TILES_H_
#define PREGATE_KERNELS_QUANT_TILES_H_

#include <cstdint>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace pregate {

// Activation rows of one block at most; a tile's accumulators for them stay in the L1 cache.
inline constexpr int kMaxBlockRows = 64;
// Lanes of the widest vector register: columns of the output in a tile at most.
inline constexpr int kMaxLanes = 16;

// What stands beside the 32 quants of an activation group for a kind of weights.
enum class GroupTerm : uint8_t {
  kOffset,   // offset[h] = -offset * sum of quants, of all 32 (h = 0)
  kHalves,   // offset[h], of 16 elements each
  kMinimum,  // minimum = scale * sum of quants
};

// 32 quantised activations of one row, as tiles read them.
struct ActivationGroup {
  int8_t high[32];
  int8_t low[32];
  float scale;
  union {
    int32_t offset[2];
    float minimum;
  };
};

// One tile's work. `weight` points at `lanes` rows of one block-quantised or plain type, `stride`
// bytes apart (where the matrix has fewer left, the last is repeated).
struct Tile {
  const uint8_t* weight;
  int64_t stride;
  int64_t cols;  // K

  int rows;                       // of this block, 1 .. kMaxBlockRows
  const ActivationGroup* groups;  // [K / 32][rows] (integer tiles)
  const float* x;                 // [rows][K], x_stride bytes apart (float tiles)
  int64_t x_stride;

  const float* bias;  // [columns], or null
  float* out;         // [rows][columns], out_stride bytes apart
  int64_t out_stride;
  int columns;  // outputs that exist, 1 .. lanes
};
using TileFunction = void (*)(const Tile&);

// How one table multiplies by one weight type.
struct TileKernel {
  int lanes;
  TileFunction run;
  GroupTerm term;  // integer tiles only
  int offset;      // what the decoded weights are too large by
};

// out = x * weight^T + bias on the device's threads. x kF32; `kernel.run` reads Tile::x.
void RunFloatTiles(Device& device, const TileKernel& kernel, ConstTensor x, ConstTensor weight,
                   const float* bias, Tensor out);

// The same with x kQ16Act; `kernel.run` reads Tile::groups.
void RunIntegerTiles(Device& device, const TileKernel& kernel, ConstTensor x, ConstTensor weight,
                     const float* bias, Tensor out);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_TILES_H_
