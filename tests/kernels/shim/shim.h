// A GPU made of fibers: runs the kernels of kernels/cuda on the host, for tests alone.
//
// A block's threads are fibers of one thread of the host; they change places at barriers and at
// instructions of whole warps, and nowhere else. Shared memory is poisoned (every float a NaN) and
// exactly as long as asked for, asynchronous copies land as late as they may, and a barrier or warp
// instruction that not all of its threads reach ends the process with what each waits for. A
// barrier that is missing shows as a difference between the two orders of threads.
#ifndef PREGATE_TESTS_KERNELS_SHIM_SHIM_H_
#define PREGATE_TESTS_KERNELS_SHIM_SHIM_H_

#include <memory>

#include "kernels/cuda/gpu_device.h"

namespace pregate {

// Its memory is the host's, but under AddressSanitizer no code of the host may touch it except
// through the device.
std::unique_ptr<GpuDevice> MakeShimDevice();

// Whether threads of a block, and blocks, run from the last to the first. For all shim devices.
void SetShimOrder(bool reversed);

// Kernels that have been launched so far.
int64_t ShimLaunches();
// Bodies that a shim device could have replaced by what it had recorded (Device::Replay).
int64_t ShimReplays(const Device& device);

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_SHIM_SHIM_H_
