// CopyLane: copies from the host's memory to a device's, beside its kernels: for weights that come
// and go while a model runs. Who waits for whom is said by moments and kept by the device, so that
// the host issues both ahead.
#ifndef PREGATE_KERNELS_COPY_LANE_H_
#define PREGATE_KERNELS_COPY_LANE_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"

namespace pregate {

class CopyLane {
 public:
  // Something that was issued: a copy, or all kernels so far. It has passed once that is done. Must
  // not outlive the lane. None waits for nothing.
  class Event {
   public:
    virtual ~Event() = default;
  };
  using Moment = std::shared_ptr<Event>;

  virtual ~CopyLane() = default;

  // Memory of the host that copies are made from: the device reaches it by itself. It may outlive
  // the lane. RESOURCE_EXHAUSTED: there is no room.
  using HostMemory = std::shared_ptr<char>;
  virtual absl::StatusOr<HostMemory> AllocateHost(size_t bytes) = 0;

  // --- From the thread that issues the device's kernels. ---

  // All kernels that have been issued so far.
  virtual Moment Kernels() = 0;

  // Kernels that are issued from now on wait for `copy`. What they stand still for is counted from
  // when those before `since` are done, with what the host takes to issue the copy.
  virtual void Hold(const Moment& since, const Moment& copy) = 0;

  // What kernels have stood still, of the holds that have passed since the last call.
  struct Stall {
    double seconds = 0;
    double copying = 0;  // of these, while something was being copied
  };
  virtual Stall TakeStall() = 0;

  // --- From one thread, which may be another. ---

  // Copies memory of AllocateHost to the device's, after `after` and all copies before.
  virtual Moment Start(void* dst, const void* src, size_t bytes, const Moment& after) = 0;

  // Waits until a copy is done.
  virtual void Await(const Moment& copy) = 0;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_COPY_LANE_H_
