// A device: memory, ordering and parallelism. Kernels run on a device; models do not care which.
#ifndef PREGATE_KERNELS_DEVICE_H_
#define PREGATE_KERNELS_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace pregate {

class CopyLane;
class Device;

// Memory of a device, freed with its owner. Movable, 64-byte aligned, contents undefined.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Device* device, void* data, size_t size)
      : device_(device), data_(data), size_(size) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer();

  void* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Work is issued from one thread; a kernel call returns when its results may be used as the input
// of the next call on the same device (on a CPU: when it is done; on a GPU: when it is queued).
class Device {
 public:
  virtual ~Device() = default;

  // For people: "cpu (avx512-vnni, 2 threads)".
  virtual std::string_view name() const = 0;

  // Whether the host's code may read and write the device's memory by itself.
  virtual bool host_memory() const { return true; }

  // RESOURCE_EXHAUSTED, with the number of bytes asked for, when there is no room.
  virtual absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) = 0;

  // Host memory to and from device memory, in the order of the calls around it.
  virtual void CopyToDevice(void* dst, const void* host_src, size_t bytes) = 0;
  virtual void CopyToHost(void* host_dst, const void* src, size_t bytes) = 0;

  // Copies beside the kernels (kernels/copy_lane.h); must end before the device. UNIMPLEMENTED:
  // this device has none.
  virtual absl::StatusOr<std::unique_ptr<CopyLane>> MakeCopyLane();

  // Waits until everything issued so far is done.
  virtual void Synchronize() = 0;

  // Calls `body`, which issues kernels and neither waits nor copies to the host. A device may keep
  // what a body has issued and issue it again in place of a later body with the same key: by
  // giving a key the caller says that the calls and their arguments are the same, though not what
  // the memory behind them holds.
  virtual void Replay([[maybe_unused]] uint64_t key, absl::FunctionRef<void()> body) { body(); }

  // Runs body(begin, end) over disjoint ranges that cover [0, count), each a multiple of `grain`
  // long except the last, on threads of the host and the caller's; returns when all have ended.
  // Must not be nested.
  virtual void ParallelFor(int64_t count, int64_t grain,
                           absl::FunctionRef<void(int64_t begin, int64_t end)> body) = 0;
  // How many threads ParallelFor uses, the caller's included.
  virtual int num_threads() const = 0;

 protected:
  friend class DeviceBuffer;
  virtual void Free(void* data, size_t bytes) = 0;
};

// The host's processors, driven by a fork-join pool of `threads` threads (0: as many as this
// process may use: affinity mask and cgroup quota, see UsableCpus).
std::unique_ptr<Device> MakeCpuDevice(int threads);

// CPUs that this process may use: the smaller of the affinity mask and the cgroup (v1 or v2) CPU
// quota rounded up; at least 1.
int UsableCpus();

// Bytes that this process may use: the smaller of the machine's memory and the cgroup limit.
int64_t UsableMemory();

}  // namespace pregate

#endif  // PREGATE_KERNELS_DEVICE_H_
