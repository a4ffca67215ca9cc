#include "kernels/cuda/module.h"

#include <cuda_runtime.h>

#include <memory>
#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/table.h"

namespace pregate {
namespace {

void GetMemory(int64_t* free, int64_t* total) {
  size_t free_bytes = 0, total_bytes = 0;
  CheckCuda(cudaMemGetInfo(&free_bytes, &total_bytes), "free memory");
  *free = static_cast<int64_t>(free_bytes);
  *total = static_cast<int64_t>(total_bytes);
}

}  // namespace
}  // namespace pregate

#define PREGATE_EXPORT extern "C" __attribute__((visibility("default")))

PREGATE_EXPORT void PregateOpenCudaModule(uint64_t version, int threads,
                                          pregate::CudaModule* module) {
  module->version = pregate::kCudaModuleVersion;
  if (version != pregate::kCudaModuleVersion) return;
  auto device = pregate::CudaDevice::Open(threads);
  if (!device.ok()) {
    const absl::string_view why = device.status().message();
    module->why_not[why.copy(module->why_not, sizeof(module->why_not) - 1)] = '\0';
    return;
  }
  module->kernels = &pregate::CudaKernels();
  module->memory = pregate::GetMemory;
  module->device = device->release();
}

PREGATE_EXPORT void* PregateCudaReachableMemory(size_t bytes) {
  void* memory = nullptr;
  if (cudaHostAlloc(&memory, bytes, cudaHostAllocMapped) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  return memory;
}
