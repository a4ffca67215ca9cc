#include "kernels/quant/tile_layout.h"

#include "kernels/quant/panels.h"

namespace pregate {
namespace {

// Rows of a panel; 0: the table has none.
int LanesOf(const Kernels& kernels) {
  for (const int lanes : {8, 16}) {
    if (kernels.packed_bytes(DType::kF32, 1, 1) == PanelBytes(DType::kF32, 1, lanes)) return lanes;
  }
  return 0;
}

}  // namespace

TileLayout LayoutOfRowTiles(const Kernels& kernels, DType dtype, int64_t width) {
  if (LanesOf(kernels) == 0) return {};
  return {1, kernels.packed_bytes(dtype, 32, width)};
}

TileLayout LayoutOfColumnTiles(const Kernels& kernels, DType dtype, int64_t width) {
  const int lanes = LanesOf(kernels);
  if (lanes == 0) return {};
  const int64_t group = GroupPanels(width, lanes);
  return {(width + lanes - 1) / lanes / group, group * PanelBytes(dtype, 32, lanes)};
}

}  // namespace pregate
