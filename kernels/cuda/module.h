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
// module of other headers would read other memory, and its functions may take something else. So
// the one that gives the module's own is asked first.
inline constexpr uint64_t kCudaModuleVersion = PREGATE_CUDA_MODULE_VERSION;
using GetCudaModuleVersion = uint64_t (*)();
inline constexpr char kGetCudaModuleVersion[] = "PregateCudaModuleVersion";

struct CudaModule {
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

// Opens device number `index`, for the calling thread.
using OpenCudaModule = void (*)(int threads, int index, CudaModule* module);
inline constexpr char kOpenCudaModule[] = "PregateOpenCudaModule";

// For the tests of kernels, which give tables plain memory: some of the host's that the device can
// reach at the same addresses, for good; null where there is none.
using CudaReachableMemory = void* (*)(size_t bytes);
inline constexpr char kCudaReachableMemory[] = "PregateCudaReachableMemory";

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_MODULE_H_
