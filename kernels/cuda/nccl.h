// Communicators of GPUs, by NVIDIA's library NCCL.
#ifndef PREGATE_KERNELS_CUDA_NCCL_H_
#define PREGATE_KERNELS_CUDA_NCCL_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/communicator.h"

namespace pregate {

// Rank r is GPU number r, and each rank's device a CudaDevice: calls run in its stream, and may be
// part of a graph. The library is loaded here. UNAVAILABLE: it is not installed, too old, or cannot
// connect these GPUs. The communicators must outlive the devices, whose graphs hold their calls.
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeNcclCommunicators(int size);

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_NCCL_H_
