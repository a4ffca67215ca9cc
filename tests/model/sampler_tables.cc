// Devices for the tests of the sampler: one whose logits the host reads, and one whose it cannot.
#include "tests/kernels/table_test.h"
#include "tests/model/distant_device.h"

namespace pregate {

std::vector<TestTable> TablesUnderTest() {
  return {{"host", &ReferenceKernels(), MakeCpuDevice, ""},
          {"distant", &ReferenceKernels(), MakeDistantDevice, ""}};
}

}  // namespace pregate
