// The CPU tables' table of rotations.
#ifndef PREGATE_KERNELS_CPU_ROPE_TABLE_H_
#define PREGATE_KERNELS_CPU_ROPE_TABLE_H_

#include "kernels/kernels.h"

namespace pregate {

// Kernels::rope_table of every CPU table: the reference's arithmetic (angles of any size, in
// double), its rows shared out.
void RopeTable(Device& device, const int32_t* positions, const float* inv_freq, float magnitude,
               Tensor cos_sin);

}  // namespace pregate

#endif  // PREGATE_KERNELS_CPU_ROPE_TABLE_H_
