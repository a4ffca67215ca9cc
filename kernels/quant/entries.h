// Entries that several tables share.
#ifndef PREGATE_KERNELS_QUANT_ENTRIES_H_
#define PREGATE_KERNELS_QUANT_ENTRIES_H_

#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/quant/tiles.h"
#include "kernels/quant/wide.h"

namespace pregate {

// Kernels::quantize_rows, the same bytes from each.
void QuantizeRowsAvx2(Device& device, absl::Span<const Quantization> matrices);
void QuantizeRowsAvx512(Device& device, absl::Span<const Quantization> matrices);

// What products with kQ13 weights round their rows with.
void QuantizeWideAvx2(const float* x, int64_t stride, int rows, int64_t groups, void* out);

// The tiles of the table of that name, for one that has others beside them.
const TileSet& TilesAvx512Vnni();

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_ENTRIES_H_
