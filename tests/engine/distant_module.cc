// A CUDA module without a GPU: the CPU's kernels on a device whose memory the host cannot reach,
// and whose copies are late.
#include <memory>

#include "kernels/cuda/module.h"
#include "tests/model/distant_device.h"

namespace {

void GetMemory(int64_t* free, int64_t* total) { *free = *total = int64_t{8} << 30; }

}  // namespace

extern "C" __attribute__((visibility("default"))) void PregateOpenCudaModule(
    uint64_t version, int threads, int, pregate::CudaModule* module) {
  module->version = pregate::kCudaModuleVersion;
  if (version != pregate::kCudaModuleVersion) return;
  module->kernels = *pregate::CpuKernels();
  module->memory = GetMemory;
  module->device = pregate::MakeDistantDevice(threads).release();
}
