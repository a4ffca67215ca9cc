// Products with many rows on processors that multiply tiles of bfloat16 (AMX): 16 rows of x by 16
// rows of the weight, 32 columns at a time.
//
// Quants are small integers, exact in bfloat16: a weight's without its offset, an activation's two
// bytes as 256 times the high one and the low one. Tiles add in float, in which sums of 32 such
// products stay integers below 2^24 and therefore exact in any order. From there an output is made
// by the operations of the integer tiles (integer_tile.inc), in their order: the bits are theirs,
// so that a row may meet either.
//
// The walk is ordinary code (many_rows.cc), a tile is the instruction set's (amx_tile.inc).
#ifndef PREGATE_KERNELS_QUANT_MANY_ROWS_H_
#define PREGATE_KERNELS_QUANT_MANY_ROWS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/quant/activations.h"
#include "kernels/tensor.h"

namespace pregate {

inline constexpr int kTileRows = 16;   // rows of x that a tile register holds
inline constexpr int kManyPanels = 4;  // panels of weights that meet them at once

// 32 columns of 16 rows of x.
struct alignas(64) TileRows {
  uint16_t parts[2][kTileRows][32];  // bfloat16, see TileForm
  float scale[kTileRows];
  float scaled_sum[kTileRows];
  float plus16[kTileRows];  // 16 * sum of q
};

// How 32 columns of a row are two parts. Elements 4 c, 4 c + 2, 4 c + 1, 4 c + 3 follow each other:
// so weights come out of their bytes.
enum class TileForm : uint8_t {
  kBytes,   // the high bytes times 256, the low bytes
  kHalves,  // of elements 0 - 15: the high bytes times 256, the low bytes; the same of 16 - 31
  kSingle,  // kQ8Act: the high bytes as they are; nothing
  kSingleHalves,  // kQ8Act: of elements 0 - 15 the high bytes, zeros; the same of 16 - 31
};

// Fills out[groups] from the groups of some rows, x[r] being row r's first one and the next ones
// step[r] behind each other; rows that lack become zero.
using TileRowsFunction = void (*)(const ActivationGroup* const* x, const int64_t* step, int rows,
                                  int64_t groups, TileRows* out);

// Four panels and some rows.
struct ManyTile {
  const void* panels[kManyPanels];  // their first blocks
  const int32_t* in_tiles;          // as in Tile, or null
  int64_t depth;                    // groups of 32 columns
  const TileRows* x;                // [blocks][depth]
  int blocks;                       // of kTileRows rows
  float* sums;                      // [blocks][kManyPanels][kTileRows][16]: memory for them
  int rows;
  const float* bias;  // [columns], or null
  float* out;         // [rows][columns], out_stride bytes apart
  int64_t out_stride;
  int columns;  // outputs that exist, 1 .. kManyPanels * 16
  bool accumulate;
};

// How an instruction set multiplies weights of a type with many rows; null: it does not.
struct ManyRows {
  TileForm form;
  int fewest_rows;  // fewer are as fast without
  void (*multiply)(const ManyTile&) = nullptr;
};

struct ManyRowsSet {
  ManyRows q16[kNumDTypes] = {};
  ManyRows q8[kNumDTypes] = {};
  TileRowsFunction make_rows[4] = {};  // by TileForm
  // A thread's tile registers are its own: before and after tiles.
  void (*enter)() = nullptr;
  void (*leave)() = nullptr;
};

// Whether `set` multiplies this.
bool HasManyRows(const ManyRowsSet& set, const Product& product);

// Kernels::matmul for products of which HasManyRows is true, with weights packed as panels of 16.
void RunManyRows(Device& device, const ManyRowsSet& set, absl::Span<const Product> products);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_MANY_ROWS_H_
