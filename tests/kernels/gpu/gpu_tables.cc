// The CUDA table on a GPU, for the tests of tests/kernels: on the module that the environment's
// PREGATE_CUDA_MODULE names. Where there is no GPU they say so, and are skipped.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "kernels/backend.h"
#include "kernels/cuda/activation_form.h"
#include "tests/kernels/gpu/reachable_memory.h"
#include "tests/kernels/table_test.h"

// Asked here for a name alone; whether the versions agree is OpenCuda's business.
#define PREGATE_CUDA_MODULE_VERSION 1
#include "kernels/cuda/module.h"

namespace pregate {
namespace {

constexpr size_t kReachableBytes = size_t{4} << 30;

struct Gpu {
  const Kernels* kernels = &ReferenceKernels();  // not run where there is a reason why not
  std::string why_not;
};

Gpu OpenGpu() {
  Gpu gpu;
  const absl::StatusOr<Backend> backend = OpenCuda(1);
  if (!backend.ok()) {
    gpu.why_not = std::string(backend.status().message());
    return gpu;
  }
  gpu.kernels = backend->kernels;
  // OpenCuda has loaded it, so that this is another handle of the same.
  void* const module = dlopen(std::getenv("PREGATE_CUDA_MODULE"), RTLD_NOW | RTLD_LOCAL);
  const auto reachable =
      module == nullptr
          ? nullptr
          : reinterpret_cast<CudaReachableMemory>(dlsym(module, kCudaReachableMemory));
  void* const region = reachable == nullptr ? nullptr : reachable(kReachableBytes);
  if (region == nullptr) {
    gpu.why_not = "device: the system gives no memory that it reaches";
    return gpu;
  }
  UseReachableMemory(region, kReachableBytes);
  return gpu;
}

std::unique_ptr<Device> MakeGpuDevice(int threads) {
  absl::StatusOr<Backend> backend = OpenCuda(threads);
  if (!backend.ok()) {
    std::fprintf(stderr, "%s\n", std::string(backend.status().message()).c_str());
    std::abort();
  }
  return std::move(backend->device);
}

}  // namespace

std::vector<TestTable> TablesUnderTest() {
  static const Gpu gpu = OpenGpu();
  const auto activation = [](ConstTensor x, int64_t row, int64_t k) {
    const cuda::HalfActivations form = cuda::HalvesIn(x.data, x.rows, x.cols);
    return form.scales[row] * HalfToFloat(form.halves[row * x.cols + k]);
  };
  return {{"cuda", gpu.kernels, MakeGpuDevice, gpu.why_not, activation}};
}

}  // namespace pregate
