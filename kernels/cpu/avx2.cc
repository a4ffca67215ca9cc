#include "kernels/cpu/cpu_tables.h"

namespace pregate {

void FillCpuAvx2(Kernels*) {}

}  // namespace pregate
