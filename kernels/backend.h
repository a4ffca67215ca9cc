// Backends: a device, and the table of kernels that runs on it.
#ifndef PREGATE_KERNELS_BACKEND_H_
#define PREGATE_KERNELS_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

struct Backend {
  std::unique_ptr<Device> device;
  const Kernels* kernels = nullptr;
  std::string description;  // "cpu (avx512vnni, 2 threads)", "NVIDIA H200 (CUDA 13.0, sm_90, ...)"
  // Bytes of the device's own memory that nobody uses, and all of them; null where its memory is
  // the host's.
  void (*memory)(int64_t* free, int64_t* total) = nullptr;
};

// The host's processors (see MakeCpuDevice) with the fastest table that they run; the errors of
// CpuKernels.
absl::StatusOr<Backend> OpenCpu(int threads);

// The first GPU, by the module libpregate_cuda.so: the file that the environment's
// PREGATE_CUDA_MODULE names, else the one beside the program, else in ../lib/pregate from there.
// `threads` are the host's that work beside it. UNAVAILABLE, with the reason, where there is no
// module, driver or GPU, or where the module is of another version. The module stays loaded.
absl::StatusOr<Backend> OpenCuda(int threads);

}  // namespace pregate

#endif  // PREGATE_KERNELS_BACKEND_H_
