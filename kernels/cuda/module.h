// What the program and its CUDA module say to each other. The program is compiled without CUDA and
// loads the module (libpregate_cuda.so) where there is one: see kernels/backend.h.
#ifndef PREGATE_KERNELS_CUDA_MODULE_H_
#define PREGATE_KERNELS_CUDA_MODULE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/communicator.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// Of the headers whose types both sides share (kernels/CMakeLists.txt makes it of their text): a
// module of other headers would read other memory.
inline constexpr uint64_t kCudaModuleVersion = PREGATE_CUDA_MODULE_VERSION;

struct CudaModule {
  uint64_t version = 0;      // of the module
  Device* device = nullptr;  // its owner is who has asked; null: there is no GPU to use
  const Kernels* kernels = nullptr;
  // Bytes of the device's memory that nobody uses, and all of them.
  void (*memory)(int64_t* free, int64_t* total) = nullptr;
  int num_devices = 0;  // that the driver shows
  // Makes the communicators of ranks 0 ... size - 1, of which each is a device: their owner is who
  // has asked. False: why not stands in `why_not`, as below.
  bool (*connect)(int size, Communicator** ranks, char* why_not, size_t why_not_bytes) = nullptr;
  // Why there is no device, 0-terminated.
  char why_not[256] = {};
};

// The module's one function, kOpenCudaModule: opens device number `index`, for the calling thread.
// Of another version than its own it fills in nothing but `version`.
using OpenCudaModule = void (*)(uint64_t version, int threads, int index, CudaModule* module);
inline constexpr char kOpenCudaModule[] = "PregateOpenCudaModule";

// For the tests of kernels, which give tables plain memory: some of the host's that the device can
// reach at the same addresses, for good; null where there is none.
using CudaReachableMemory = void* (*)(size_t bytes);
inline constexpr char kCudaReachableMemory[] = "PregateCudaReachableMemory";

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_MODULE_H_
