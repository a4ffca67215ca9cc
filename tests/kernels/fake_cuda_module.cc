// A CUDA module of another version of the program, for backend_test.
#define PREGATE_CUDA_MODULE_VERSION 1
#include "kernels/cuda/module.h"

extern "C" __attribute__((visibility("default"))) void PregateOpenCudaModule(
    uint64_t version, int, int, pregate::CudaModule* module) {
  module->version = pregate::kCudaModuleVersion;
  // What a program reads of another layout.
  if (version != pregate::kCudaModuleVersion)
    module->device = reinterpret_cast<pregate::Device*>(1);
}
