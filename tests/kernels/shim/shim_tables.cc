// The CUDA table on the shim, its threads in either order, for the tests of tests/kernels.
#include "kernels/cuda/activation_form.h"
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
  const auto activation = [](ConstTensor x, int64_t row, int64_t k) {
    const cuda::HalfActivations form = cuda::HalvesIn(x.data, x.rows, x.cols);
    return form.scales[row] * HalfToFloat(form.halves[row * x.cols + k]);
  };
  return {{"cuda_on_shim", &CudaKernels(), ascending, "", activation, /*slow=*/true},
          {"cuda_on_shim_reversed", &CudaKernels(), descending, "", activation, /*slow=*/true}};
}

}  // namespace pregate
