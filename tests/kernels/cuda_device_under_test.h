// The device of cuda_device_test: a GPU, or the CUDA device on a runtime that is not CUDA's.
#ifndef PREGATE_TESTS_KERNELS_CUDA_DEVICE_UNDER_TEST_H_
#define PREGATE_TESTS_KERNELS_CUDA_DEVICE_UNDER_TEST_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda/gpu_device.h"

namespace pregate {

absl::StatusOr<std::unique_ptr<Device>> OpenDeviceUnderTest();

// Whether all that is issued runs as late as it may: what was not made to wait is seen to be early.
bool RunsLate();

// Issues a kernel: out[i] = a[i] + b[i] for i < count, all of the device's memory.
void IssueAdd(Device& device, const float* a, const float* b, float* out, int64_t count);

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_CUDA_DEVICE_UNDER_TEST_H_
