// The CPU, and the CPU as a device that the host cannot reach into.
#include "tests/kernels/table_test.h"
#include "tests/model/distant_device.h"

namespace pregate {

std::vector<TestTable> TablesUnderTest() {
  const absl::StatusOr<const Kernels*> cpu = CpuKernels();
  const Kernels* const kernels = cpu.ok() ? *cpu : &ReferenceKernels();
  return {{"cpu", kernels, MakeCpuDevice, ""}, {"distant", kernels, MakeDistantDevice, ""}};
}

}  // namespace pregate
