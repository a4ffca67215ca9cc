// A file in memory, for tests of what reads it.
#ifndef PREGATE_TESTS_MODEL_FAKE_DIRECT_FILE_H_
#define PREGATE_TESTS_MODEL_FAKE_DIRECT_FILE_H_

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "engine/model/direct_file.h"

namespace pregate {

// It can be stopped, and can fail.
class FakeFile : public DirectFile {
 public:
  absl::Status Write(int64_t offset, const void* data, int64_t bytes) override {
    if (static_cast<int64_t>(bytes_.size()) < offset + bytes) bytes_.resize(offset + bytes);
    std::memcpy(bytes_.data() + offset, data, bytes);
    return absl::OkStatus();
  }
  absl::Status Read(int64_t offset, void* data, int64_t bytes) override {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&open_));
    offsets_.push_back(offset);
    if (offset == failing_offset_) return absl::DataLossError("expert file: cannot read");
    std::memcpy(data, bytes_.data() + offset, bytes);
    return absl::OkStatus();
  }
  std::string_view method() const override { return "fake"; }

  void SetOpen(bool open) {
    absl::MutexLock lock(&mutex_);
    open_ = open;
  }
  void FailAt(int64_t offset) {
    absl::MutexLock lock(&mutex_);
    failing_offset_ = offset;
  }
  std::vector<int64_t> TakeOffsets() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(offsets_, {});
  }

 private:
  std::vector<char> bytes_;
  absl::Mutex mutex_;
  bool open_ = true;
  int64_t failing_offset_ = -1;
  std::vector<int64_t> offsets_;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_FAKE_DIRECT_FILE_H_
