// A CUDA module without a GPU: the CPU's kernels on a device whose memory the host cannot reach,
// and whose copies are late.
#include <memory>

#include "kernels/cuda/module.h"
#include "tests/model/distant_device.h"

namespace {

void GetMemory(int64_t* free, int64_t* total) { *free = *total = int64_t{8} << 30; }

}  // namespace

#define PREGATE_EXPORT extern "C" __attribute__((visibility("default")))

PREGATE_EXPORT uint64_t PregateCudaModuleVersion() { return pregate::kCudaModuleVersion; }

PREGATE_EXPORT void PregateOpenCudaModule(int threads, int, pregate::CudaModule* module) {
  module->kernels = *pregate::CpuKernels();
  module->memory = GetMemory;
  module->device = pregate::MakeDistantDevice(threads).release();
}
