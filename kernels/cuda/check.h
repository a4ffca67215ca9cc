// Errors of the CUDA runtime, which end the process.
#ifndef PREGATE_KERNELS_CUDA_CHECK_H_
#define PREGATE_KERNELS_CUDA_CHECK_H_

#include <cuda_runtime.h>

#include <source_location>

namespace pregate {

// Exit status of a process whose device has failed.
inline constexpr int kDeviceFailedExitStatus = 4;

// Says in one line what failed and leaves: an error of a kernel is seen by some later call, and
// stays, so that nothing that was computed since can be trusted.
[[noreturn]] void FailCuda(const char* error, const char* what, std::source_location where);

inline void CheckCuda(cudaError_t error, const char* what,
                      std::source_location where = std::source_location::current()) {
  if (error != cudaSuccess) FailCuda(cudaGetErrorString(error), what, where);
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_CHECK_H_
