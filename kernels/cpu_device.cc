#include <sys/mman.h>

#include <cassert>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/copy_lane.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/thread_pool.h"

namespace pregate {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

class CpuDevice : public Device {
 public:
  explicit CpuDevice(int threads) : pool_(threads, /*may_spin=*/threads <= UsableCpus()) {
    const auto table = CpuKernels();
    const std::string isa = table.ok() ? std::string((*table)->name) + ", " : "";
    name_ = absl::StrCat("cpu (", isa, threads, threads == 1 ? " thread)" : " threads)");
  }

  std::string_view name() const override { return name_; }

  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override {
    // Large buffers on huge pages: weights and caches are read in long sweeps.
    const size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kAlignment;
    void* data = nullptr;
    // More would be promised by the system and then end the process on use.
    if (bytes <= usable_memory_) {
      const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
      data = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
    }
    if (data == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes"));
    }
    if (alignment == kHugePage) madvise(data, bytes, MADV_HUGEPAGE);  // a wish, not a need
    return DeviceBuffer(this, data, bytes);
  }

  void CopyToDevice(void* dst, const void* host_src, size_t bytes) override {
    if (bytes > 0) std::memcpy(dst, host_src, bytes);
  }
  void CopyToHost(void* host_dst, const void* src, size_t bytes) override {
    if (bytes > 0) std::memcpy(host_dst, src, bytes);
  }
  void Synchronize() override {}

  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t, int64_t)> body) override {
    pool_.ParallelFor(count, grain, body);
  }
  int num_threads() const override { return pool_.num_threads(); }

 protected:
  void Free(void* data, size_t) override { std::free(data); }

 private:
  ThreadPool pool_;
  std::string name_;
  const size_t usable_memory_ = static_cast<size_t>(UsableMemory());
};

}  // namespace

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

absl::StatusOr<std::unique_ptr<CopyLane>> Device::MakeCopyLane() {
  return absl::UnimplementedError(
      absl::StrCat("device: ", std::string(name()), " copies nothing beside its kernels"));
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) device_->Free(data_, size_);
}

std::unique_ptr<Device> MakeCpuDevice(int threads) {
  assert(threads >= 0);
  return std::make_unique<CpuDevice>(threads == 0 ? UsableCpus() : threads);
}

}  // namespace pregate
