// Backends: a device, and the table of kernels that runs on it.
#ifndef PREGATE_KERNELS_BACKEND_H_
#define PREGATE_KERNELS_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/communicator.h"
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
  // Of a GPU: how many there are, and what ConnectRanks asks (kernels/cuda/module.h).
  int num_devices = 1;
  bool (*connect)(int size, Communicator** ranks, char* why_not, size_t why_not_bytes) = nullptr;
};

// The host's processors (see MakeCpuDevice) with the fastest table that they run; the errors of
// CpuKernels.
absl::StatusOr<Backend> OpenCpu(int threads);

// The first GPU, by the module libpregate_cuda.so: the file that the environment's
// PREGATE_CUDA_MODULE names, else the one beside the program, else in ../lib/pregate from there.
// `threads` are the host's that work beside it. UNAVAILABLE, with the reason, where there is no
// module, driver or GPU, or where the module is of another version. The module stays loaded.
absl::StatusOr<Backend> OpenCuda(int threads);
// The same for GPU number `index`, which is the calling thread's alone.
absl::StatusOr<Backend> OpenCuda(int threads, int index);

// A communicator for each of `size` ranks on devices like the backend's: threads of this process,
// each with a device of the host, or GPUs 0 ... size - 1. They must outlive the devices.
// FAILED_PRECONDITION: there are fewer GPUs; UNAVAILABLE: nothing here connects them.
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> ConnectRanks(const Backend& backend,
                                                                        int size);
// Whether `size` ranks on devices like this may spin while they wait, see MakeHostCommunicators.
bool RanksMaySpin(const Device& device, int size);

}  // namespace pregate

#endif  // PREGATE_KERNELS_BACKEND_H_
