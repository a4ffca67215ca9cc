// A CPU that says that the host cannot reach its memory: what runs on such devices, and how much
// of their memory crosses.
#ifndef PREGATE_TESTS_MODEL_DISTANT_DEVICE_H_
#define PREGATE_TESTS_MODEL_DISTANT_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "tests/kernels/late_copy_lane.h"

namespace pregate {

class DistantDevice : public Device {
 public:
  explicit DistantDevice(int threads) : cpu_(MakeCpuDevice(threads)) {}

  std::string_view name() const override { return "distant"; }
  bool host_memory() const override { return false; }
  // Buffers must end before the device, as any device's.
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override {
    if (!has_room_) return absl::ResourceExhaustedError("device: no room");
    return cpu_->Allocate(bytes);
  }
  absl::StatusOr<std::unique_ptr<CopyLane>> MakeCopyLane() override {
    auto lane = std::make_unique<LateCopyLane>(cpu_.get());
    copy_lane_ = lane.get();
    return lane;
  }
  void CopyToDevice(void* dst, const void* host_src, size_t bytes) override {
    cpu_->CopyToDevice(dst, host_src, bytes);
  }
  void CopyToHost(void* host_dst, const void* src, size_t bytes) override {
    ++copies_to_host_;
    bytes_to_host_ += static_cast<int64_t>(bytes);
    cpu_->CopyToHost(host_dst, src, bytes);
  }
  void Synchronize() override { cpu_->Synchronize(); }
  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body) override {
    cpu_->ParallelFor(count, grain, body);
  }
  int num_threads() const override { return cpu_->num_threads(); }

  // The one that was made last.
  LateCopyLane* copy_lane() const { return copy_lane_; }
  void set_has_room(bool has_room) { has_room_ = has_room; }
  // So far.
  int64_t copies_to_host() const { return copies_to_host_; }
  int64_t bytes_to_host() const { return bytes_to_host_; }

 protected:
  void Free(void*, size_t) override {}  // buffers are the CPU's

 private:
  const std::unique_ptr<Device> cpu_;
  LateCopyLane* copy_lane_ = nullptr;
  bool has_room_ = true;
  int64_t copies_to_host_ = 0, bytes_to_host_ = 0;
};

inline std::unique_ptr<Device> MakeDistantDevice(int threads) {
  return std::make_unique<DistantDevice>(threads);
}

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_DISTANT_DEVICE_H_
