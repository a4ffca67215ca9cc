#include "kernels/cpu/cpu_tables.h"

namespace pregate {

void FillCpuAvx512(Kernels*) {}

}  // namespace pregate
