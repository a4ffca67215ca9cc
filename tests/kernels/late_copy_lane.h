// A copy lane for devices whose kernels have run when they are issued: a copy is made as late as it
// may be, when kernels are made to wait for it. So kernels that are not made to find old bytes.
#ifndef PREGATE_TESTS_KERNELS_LATE_COPY_LANE_H_
#define PREGATE_TESTS_KERNELS_LATE_COPY_LANE_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kernels/copy_lane.h"
#include "kernels/device.h"

namespace pregate {

class LateCopyLane : public CopyLane {
 public:
  // Of the host who waits for a copy that no kernel waits for, before it is made.
  static constexpr absl::Duration kPatience = absl::Milliseconds(10);

  explicit LateCopyLane(Device* device, absl::Duration patience = kPatience)
      : device_(*device), patience_(patience) {}

  absl::StatusOr<HostMemory> AllocateHost(size_t bytes) override {
    constexpr size_t kPage = 4096;
    void* const data = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
    return HostMemory(static_cast<char*>(data), [](char* memory) { std::free(memory); });
  }

  Moment Kernels() override {
    absl::MutexLock lock(&mutex_);
    return std::make_shared<Number>(kernels_);
  }
  void Hold(const Moment& since, const Moment& copy) override {
    absl::MutexLock lock(&mutex_);
    if (copy != nullptr) MakeUpTo(NumberOf(copy));
    stall_.seconds += absl::ToDoubleSeconds(absl::Now() - static_cast<Number&>(*since).made);
    stall_.copying = stall_.seconds;
  }
  Stall TakeStall() override {
    absl::MutexLock lock(&mutex_);
    return std::exchange(stall_, {});
  }

  Moment Start(void* dst, const void* src, size_t bytes, const Moment& after) override {
    absl::MutexLock lock(&mutex_);
    const auto reader = readers_.find(dst);
    if (reader != readers_.end() && (after == nullptr || NumberOf(after) < reader->second)) {
      std::fprintf(stderr, "late_copy_lane: a copy over what kernels may still read\n");
      std::abort();
    }
    waiting_.push_back({dst, src, bytes});
    return std::make_shared<Number>(made_ + static_cast<int64_t>(waiting_.size()));
  }
  void Await(const Moment& copy) override {
    absl::MutexLock lock(&mutex_);
    const int64_t number = NumberOf(copy);
    const auto is_made = [this, number] { return made_ >= number; };
    mutex_.AwaitWithTimeout(absl::Condition(&is_made), patience_);
    MakeUpTo(number);
  }

  // Says that a kernel was issued that reads what a copy to `dst` has brought.
  void NoteReader(const void* dst) {
    absl::MutexLock lock(&mutex_);
    readers_[dst] = ++kernels_;
  }
  int64_t started() const {
    absl::MutexLock lock(&mutex_);
    return made_ + static_cast<int64_t>(waiting_.size());
  }

 private:
  struct Number : Event {
    explicit Number(int64_t number) : number(number) {}
    const int64_t number;
    const absl::Time made = absl::Now();
  };
  struct Copy {
    void* dst;
    const void* src;
    size_t bytes;
  };

  static int64_t NumberOf(const Moment& moment) { return static_cast<Number&>(*moment).number; }
  void MakeUpTo(int64_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (; made_ < number; ++made_) {
      const Copy& copy = waiting_.front();
      device_.CopyToDevice(copy.dst, copy.src, copy.bytes);
      waiting_.pop_front();
    }
  }

  Device& device_;
  const absl::Duration patience_;
  mutable absl::Mutex mutex_;
  std::deque<Copy> waiting_ ABSL_GUARDED_BY(mutex_);
  int64_t made_ ABSL_GUARDED_BY(mutex_) = 0;                        // copies that are done
  int64_t kernels_ ABSL_GUARDED_BY(mutex_) = 0;                     // noted so far
  std::map<const void*, int64_t> readers_ ABSL_GUARDED_BY(mutex_);  // the newest kernel of each
  Stall stall_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_LATE_COPY_LANE_H_
