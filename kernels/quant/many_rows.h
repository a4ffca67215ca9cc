// Products with many rows on processors that multiply tiles of bfloat16 (AMX): 16 rows of x by 16
// rows of the weight, 32 columns at a time.
//
// Quants are small integers, exact in bfloat16: a weight's without its offset, an activation's two
// bytes as 256 times the high one and the low one. Tiles add in float, in which sums of 32 such
// products stay integers below 2^24 and therefore exact in any order. From there an output is made
// by the operations of the integer tiles (integer_tile.inc), in their order: the bits are theirs,
// so that a row may meet either.
//
// Products of one weight, as tied experts have them, share tiles: a block of 16 rows may belong to
// several and meets what any of its rows asks for. Of what a row has not asked for outputs are left
// out and activations are zero, which adds exactly nothing.
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

// Fills `out` from groups of `rows` rows, of which those that are null count as zero; so do rows
// that lack.
using TileRowsFunction = void (*)(const ActivationGroup* const* x, int rows, TileRows* out);

// Blocks of kTileRows rows that meet decoded weights at most: their sums stay in the level-1 cache.
inline constexpr int kMaxManyBlocks = 6;

// 32 columns of the weight.
struct ManyStep {
  int64_t block;    // where they stand in a panel, in 32 columns
  uint32_t blocks;  // bit b: block b of the rows meets them
};

// Outputs of consecutive rows that belong to one product.
struct ManyOutputs {
  int first_row;
  int rows;
  const float* bias;  // [columns], or null
  float* out[2];      // of the first two panels and of the others, [rows][32]; null: nobody's
  int64_t out_stride;
  bool accumulate;
};

// Four panels, or two where there are no more than 32 columns, and some rows.
struct ManyTile {
  const void* panels[kManyPanels];    // their first blocks
  int64_t depth;                      // groups of 32 columns
  const ManyStep* steps;              // [depth], or null: all blocks meet one group after the other
  const TileRows* x[kMaxManyBlocks];  // [blocks][depth]
  int blocks;
  float* sums;  // [blocks][kManyPanels][kTileRows][16]: memory for them
  absl::Span<const ManyOutputs> outputs;
  int columns;  // outputs that exist, 1 .. kManyPanels * 16
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

// Whether `set` multiplies these products of one weight, which no others have, and is the faster.
bool HasManyRows(const ManyRowsSet& set, absl::Span<const Product* const> products);

// Kernels::matmul for products of which HasManyRows is true, with weights packed as panels of 16;
// those of one weight follow each other.
void RunManyRows(Device& device, const ManyRowsSet& set, absl::Span<const Product* const> products);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_MANY_ROWS_H_
