// The GPU that cuda_device_test is run on.
#include <utility>

#include "kernels/backend.h"
#include "tests/kernels/cuda_device_under_test.h"

namespace pregate {
namespace {

const Kernels* kernels = nullptr;

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> OpenDeviceUnderTest() {
  absl::StatusOr<Backend> backend = OpenCuda(1);
  if (!backend.ok()) return backend.status();
  kernels = backend->kernels;
  return std::move(backend->device);
}

bool RunsLate() { return false; }

void IssueAdd(Device& device, const float* a, const float* b, float* out, int64_t count) {
  const auto view = [count](const void* data) { return MakeView(data, DType::kF32, 1, count); };
  kernels->add(device, view(a), view(b), MakeView(static_cast<void*>(out), DType::kF32, 1, count));
}

}  // namespace pregate
