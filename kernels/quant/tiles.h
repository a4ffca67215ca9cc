// How matrix products are cut: tiles of weight rows times blocks of activation rows. The walk over
// tiles is ordinary code; what happens inside a tile is a function of an instruction set.
//
// A tile computes `lanes` columns of the output, one in each lane of a vector register, for a block
// of activation rows. The weights of a tile are decoded once for all rows of the block. Each output
// has one accumulator that takes the groups of 32 elements in ascending order, whatever the number
// of rows: that is why a row's result does not depend on its batch.
#ifndef PREGATE_KERNELS_QUANT_TILES_H_
#define PREGATE_KERNELS_QUANT_TILES_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/quant/activations.h"
#include "kernels/tensor.h"

namespace pregate {

// Tiles whose weights are asked for before those in use, where a list says which come next.
inline constexpr int kTilesAhead = 16;

// A row of a tile that lies apart from the others: one of several products' rows.
struct JoinedRow {
  const ActivationGroup* x;
  int64_t step;  // from one group to the next
  float* out;
  bool accumulate;
};

// One tile's work.
struct Tile {
  const void* panel;  // weights of `lanes` rows, see panels.h
  int64_t cols;       // K' of x
  // Product::in_tiles, or null; behind them stand kTilesAhead more, of the panels that follow.
  const int32_t* in_tiles;

  int rows;                       // of this block, 1 .. kMaxBlockRows
  const ActivationGroup* groups;  // [K' / 32][rows] (integer tiles)
  const float* x;                 // [rows][K'], x_stride bytes apart (float tiles)
  int64_t x_stride;
  // Instead of groups, out, accumulate (integer tiles without in_tiles and bias): [rows]. Null:
  // those.
  const JoinedRow* joined;

  const float* bias;  // [columns], or null
  float* out;         // [rows][columns], out_stride bytes apart
  int64_t out_stride;
  int columns;      // outputs that exist, 1 .. lanes
  bool accumulate;  // to what `out` holds
};
using TileFunction = void (*)(const Tile&);

// How an instruction set multiplies, by the weight's type; null: it cannot.
struct TileSet {
  int lanes = 0;
  TileFunction floating[kNumDTypes] = {};  // reads Tile::x
  TileFunction q16[kNumDTypes] = {};       // reads Tile::groups, of kQ16Act
  TileFunction q8[kNumDTypes] = {};        // reads Tile::groups, of kQ8Act
  // out[0, cols) = the weights of one lane of a panel.
  void (*decode_lane[kNumDTypes])(const void* panel, int64_t cols, int lane, float* out) = {};
};

// Kernels::matmul for weights packed as panels of `tiles.lanes` rows.
void RunMatmul(Device& device, const TileSet& tiles, absl::Span<const Product> products);

// Kernels::embed for a table packed as panels of `tiles.lanes` rows.
void RunEmbed(Device& device, const TileSet& tiles, const PackedWeight& table, const int32_t* ids,
              float scale, Tensor out);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_TILES_H_
