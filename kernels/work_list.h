// Work of many sizes as one loop: the matrices, panels and experts of a kernel call.
#ifndef PREGATE_KERNELS_WORK_LIST_H_
#define PREGATE_KERNELS_WORK_LIST_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "kernels/device.h"

namespace pregate {

// Items of equal units each. Threads share them out by work, not by count, so that one large item
// among many small ones keeps all of them busy.
class WorkList {
 public:
  // The next item: `units` units that take `unit_work` each (at least 1), in any measure that is
  // the same for all items.
  void Add(int64_t units, int64_t unit_work);

  int64_t work() const { return work_; }

  // Calls body(item, first_unit, last_unit) until every unit is done once, on the device's threads,
  // in shares of about `grain` work. Must not be nested.
  void Run(Device& device, int64_t grain,
           absl::FunctionRef<void(int64_t item, int64_t begin, int64_t end)> body) const;

 private:
  struct Item {
    int64_t first_work;  // of all items before it
    int64_t units;
    int64_t unit_work;
  };
  absl::InlinedVector<Item, 8> items_;
  int64_t work_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_WORK_LIST_H_
