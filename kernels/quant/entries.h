// Entries that several tables share.
#ifndef PREGATE_KERNELS_QUANT_ENTRIES_H_
#define PREGATE_KERNELS_QUANT_ENTRIES_H_

#include <cstdint>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace pregate {

// Kernels::quantize_rows, the same bytes from each.
void QuantizeRowsAvx2(Device& device, ConstTensor x, Tensor out);
void QuantizeRowsAvx512(Device& device, ConstTensor x, Tensor out);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_ENTRIES_H_
