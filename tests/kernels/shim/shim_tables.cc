// The CUDA table on the shim, its threads in either order, for the tests of tests/kernels.
#include "kernels/cuda/table.h"
#include "tests/kernels/shim/shim.h"
#include "tests/kernels/table_test.h"

namespace pregate {

std::vector<TestTable> TablesUnderTest() {
  const auto ascending = [](int) -> std::unique_ptr<Device> {
    SetShimOrder(/*reversed=*/false);
    return MakeShimDevice();
  };
  const auto descending = [](int) -> std::unique_ptr<Device> {
    SetShimOrder(/*reversed=*/true);
    return MakeShimDevice();
  };
  return {{"cuda_on_shim", &CudaKernels(), ascending, ""},
          {"cuda_on_shim_reversed", &CudaKernels(), descending, ""}};
}

}  // namespace pregate
