#include "kernels/cuda/module.h"

#include <cuda_runtime.h>

#include <memory>
#include <utility>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/nccl.h"
#include "kernels/cuda/table.h"

namespace pregate {
namespace {

void GetMemory(int64_t* free, int64_t* total) {
  size_t free_bytes = 0, total_bytes = 0;
  CheckCuda(cudaMemGetInfo(&free_bytes, &total_bytes), "free memory");
  *free = static_cast<int64_t>(free_bytes);
  *total = static_cast<int64_t>(total_bytes);
}

// As much of it as there is room for, 0-terminated.
void Say(absl::string_view why, char* out, size_t bytes) { out[why.copy(out, bytes - 1)] = '\0'; }

bool Connect(int size, Communicator** ranks, char* why_not, size_t why_not_bytes) {
  absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> group = MakeNcclCommunicators(size);
  if (!group.ok()) {
    Say(group.status().message(), why_not, why_not_bytes);
    return false;
  }
  for (std::unique_ptr<Communicator>& rank : *group) *ranks++ = rank.release();
  return true;
}

}  // namespace
}  // namespace pregate

#define PREGATE_EXPORT extern "C" __attribute__((visibility("default")))

PREGATE_EXPORT uint64_t PregateCudaModuleVersion() { return pregate::kCudaModuleVersion; }

PREGATE_EXPORT void PregateOpenCudaModule(int threads, int index, pregate::CudaModule* module) {
  auto device = pregate::CudaDevice::Open(threads, index);
  if (!device.ok()) {
    return pregate::Say(device.status().message(), module->why_not, sizeof(module->why_not));
  }
  module->kernels = &pregate::CudaKernels();
  module->memory = pregate::GetMemory;
  pregate::CheckCuda(cudaGetDeviceCount(&module->num_devices), "devices");
  module->connect = pregate::Connect;
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
