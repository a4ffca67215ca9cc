// The CPU tables of this build. Reading one is always allowed; calling it needs the instructions.
#ifndef PREGATE_KERNELS_CPU_CPU_TABLES_H_
#define PREGATE_KERNELS_CPU_CPU_TABLES_H_

#include "kernels/kernels.h"

namespace pregate {

// Each overwrites all entries but embed, quantize_rows, the matrix products and what
// is for hosts that cannot read logits.
void FillCpuAvx2(Kernels* kernels);    // AVX2, FMA, F16C
void FillCpuAvx512(Kernels* kernels);  // and AVX-512 F, BW, DQ, VL

}  // namespace pregate

#endif  // PREGATE_KERNELS_CPU_CPU_TABLES_H_
