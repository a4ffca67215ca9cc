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
#include "kernels/quant/many_rows.h"
#include "kernels/quant/wide.h"
#include "kernels/tensor.h"

namespace pregate {

// Tiles whose weights are asked for before those in use, where a list says which come next.
inline constexpr int kTilesAhead = 16;

// One tile's work.
struct Tile {
  const void* panel;  // weights of `lanes` rows, see panels.h
  int64_t cols;       // K' of x
  // Where Product::in_tiles stand in the panel, in 32 columns, or null: one after the other. Behind
  // them stand kTilesAhead more, of the panel that follows.
  const int32_t* in_tiles;
  // Weights are asked for on the way: panels stand behind each other up to `end`, and what the
  // thread will want then is at `next`. Null where the processor foresees one row's weights.
  const char* end;
  const char* next;
  // For such a row what the thread will want after the panel, or null: asked for at half the
  // panel's pace.
  const void* ahead;

  int rows;                       // of this block, 1 .. kMaxBlockRows
  const ActivationGroup* groups;  // [K' / 32][rows] (integer tiles)
  const float* x;                 // [rows][K'], x_stride bytes apart (float tiles)
  int64_t x_stride;
  const float* bias;  // [columns], or null
  float* out;         // [rows][columns], out_stride bytes apart
  int64_t out_stride;
  int columns;      // outputs that exist, 1 .. lanes
  bool accumulate;  // to what `out` holds
};
using TileFunction = void (*)(const Tile&);

// Rows of one product among those of a joined tile.
struct JoinedStrip {
  const ActivationGroup* groups;  // [K' / 32][rows]
  int rows;
  float* out;  // [rows][columns], out_stride bytes apart
  int64_t out_stride;
  bool accumulate;
};

// 32 columns of a weight that is packed by tiles, and whom they concern.
struct TileStep {
  int64_t block;    // where they stand in the first panel, in 32 columns
  uint64_t strips;  // bit i: strip i, whose next group they meet
};

// Rows times panels times lanes of a joined tile at most: its sums stay in the level-1 cache.
inline constexpr int kMaxJoinedSums = 2560;

// Work of several products of one weight without bias: weights are decoded once for all of them.
struct JoinedTile {
  const void* panel;
  int64_t cols;  // K, where there are no steps
  // Of a weight that is packed by tiles; empty: one panel, which all strips meet from end to end.
  absl::Span<const TileStep> steps;
  bool asks;   // the steps' weights are asked for, however few the rows; always from some rows on
  int panels;  // side by side
  int64_t group;                         // panels of a group
  absl::Span<const JoinedStrip> strips;  // up to 64
  int rows;                              // of all strips, 1 .. kMaxBlockRows
  int columns;                           // outputs that exist, of all panels
};
using JoinedFunction = void (*)(const JoinedTile&);

// How an instruction set multiplies, by the weight's type; null: it cannot.
struct TileSet {
  int lanes = 0;
  TileFunction floating[kNumDTypes] = {};  // reads Tile::x
  TileFunction q16[kNumDTypes] = {};       // reads Tile::groups, of kQ16Act
  TileFunction q8[kNumDTypes] = {};        // reads Tile::groups, of kQ8Act
  JoinedFunction joined_q16[kNumDTypes] = {};
  JoinedFunction joined_q8[kNumDTypes] = {};
  // Of kQ13.
  WideForm wide;
  // For products with many rows, or null; the bits are those of the tiles above.
  const ManyRowsSet* many_rows = nullptr;
  // out[0, cols) = the weights of one lane of a panel.
  void (*decode_lane[kNumDTypes])(const void* panel, int64_t cols, int lane, float* out) = {};
};

// Kernels::matmul for weights packed as panels of `tiles.lanes` rows, or wide ones.
void RunMatmul(Device& device, const TileSet& tiles, absl::Span<const Product> products);

// Kernels::embed for a table packed as panels of `tiles.lanes` rows.
void RunEmbed(Device& device, const TileSet& tiles, const PackedWeight& table, const int32_t* ids,
              float scale, Tensor out);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_TILES_H_
