// Where tiles of 32 neurons stand in a packed matrix, for those who bring them in one by one.
#ifndef PREGATE_KERNELS_QUANT_TILE_LAYOUT_H_
#define PREGATE_KERNELS_QUANT_TILE_LAYOUT_H_

#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/tensor.h"

namespace pregate {

// A matrix of T tiles is `groups` times the T parts of its tiles: part t of group g stands at byte
// (g * T + t) * part_bytes, however many tiles there are.
struct TileLayout {
  int64_t groups = 0;  // 0: the table keeps tiles in another way
  int64_t part_bytes = 0;
};

// Of weights [32 T, width], not packed by tiles, that Product::out_tiles pick from.
TileLayout LayoutOfRowTiles(const Kernels& kernels, DType dtype, int64_t width);
// Of weights [width, 32 T], packed by tiles, that Product::in_tiles pick from.
TileLayout LayoutOfColumnTiles(const Kernels& kernels, DType dtype, int64_t width);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_TILE_LAYOUT_H_
