// Lists in a device's memory, for tests.
#ifndef PREGATE_TESTS_KERNELS_DEVICE_LIST_H_
#define PREGATE_TESTS_KERNELS_DEVICE_LIST_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/device.h"

namespace pregate {

// A list on a device, all bits set until something is written, with as much behind it.
template <typename T>
class DeviceList {
 public:
  DeviceList(Device& device, size_t size) : device_(device), host_(2 * size) {
    if (size > 0) std::memset(static_cast<void*>(host_.data()), 0xFF, bytes());
    buffer_ = *device.Allocate(std::max<size_t>(bytes(), 1));
    device.CopyToDevice(data(), host_.data(), bytes());
  }
  T* data() { return static_cast<T*>(buffer_.data()); }
  void Write(const std::vector<T>& values) {
    device_.CopyToDevice(data(), values.data(), values.size() * sizeof(T));
  }
  // The list; nothing was written behind it.
  std::vector<T> Read() {
    device_.CopyToHost(host_.data(), data(), bytes());
    device_.Synchronize();
    const auto* const end = reinterpret_cast<const char*>(host_.data() + host_.size());
    const auto* const behind = reinterpret_cast<const char*>(host_.data() + host_.size() / 2);
    EXPECT_TRUE(std::all_of(behind, end, [](char byte) { return byte == '\xFF'; }));
    return {host_.begin(), host_.begin() + static_cast<int64_t>(host_.size() / 2)};
  }

 private:
  size_t bytes() const { return host_.size() * sizeof(T); }
  Device& device_;
  std::vector<T> host_;
  DeviceBuffer buffer_;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_DEVICE_LIST_H_
