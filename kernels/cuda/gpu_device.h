// What the launching halves of CUDA kernels need of their device, besides what every device has.
#ifndef PREGATE_KERNELS_CUDA_GPU_DEVICE_H_
#define PREGATE_KERNELS_CUDA_GPU_DEVICE_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "kernels/device.h"

namespace pregate {

class Blas;

class GpuDevice : public Device {
 public:
  // The cudaStream_t of all kernels.
  virtual void* stream() = 0;

  // Memory for what one entry of the table hands from kernel to kernel: contents are undefined at
  // first, and lost with the next call of Scratch by a later entry. Aborts when there is no room.
  virtual void* Scratch(size_t bytes) = 0;

  // A copy of `bytes` bytes of host memory that stays on the device as long as it lives; equal
  // contents share one. For lists that a model uses again and again, as those of the tiles of an
  // expert; null for 0 bytes.
  virtual const void* Resident(const void* host, size_t bytes) = 0;
  template <typename T>
  const T* ResidentList(absl::Span<const T> list) {
    return static_cast<const T*>(Resident(list.data(), list.size() * sizeof(T)));
  }

  // Multiprocessors, and bytes of shared memory that one block may use.
  virtual int multiprocessors() const = 0;
  virtual size_t max_shared_bytes() const = 0;

  // Products of large plain matrices; null where the library is not there.
  virtual Blas* blas() = 0;
};

// Every device that a CUDA table is given is one.
inline GpuDevice& AsGpu(Device& device) { return static_cast<GpuDevice&>(device); }

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_GPU_DEVICE_H_
