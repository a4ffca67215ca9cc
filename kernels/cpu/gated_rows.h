// Gated activations of several groups of rows as one loop.
#ifndef PREGATE_KERNELS_CPU_GATED_ROWS_H_
#define PREGATE_KERNELS_CPU_GATED_ROWS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// out[0, n) from gate and up (null: the activation alone) where the bits of `owned` (null: all) are
// set, 0 elsewhere.
using GateSpanFunction = void (*)(const float* gate, const float* up, const uint32_t* owned,
                                  int64_t n, float* out);

// Kernels::gated_activation with an instruction set's function for an activation.
void RunGatedRows(Device& device, absl::Span<const GatedRows> groups, GateSpanFunction span);

}  // namespace pregate

#endif  // PREGATE_KERNELS_CPU_GATED_ROWS_H_
