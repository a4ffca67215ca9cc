// Entries that several tables share.
#ifndef PREGATE_KERNELS_QUANT_ENTRIES_H_
#define PREGATE_KERNELS_QUANT_ENTRIES_H_

#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// Kernels::quantize_rows, the same bytes from each.
void QuantizeRowsAvx2(Device& device, absl::Span<const Quantization> matrices);
void QuantizeRowsAvx512(Device& device, absl::Span<const Quantization> matrices);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_ENTRIES_H_
