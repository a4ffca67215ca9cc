#include "kernels/work_list.h"

#include <algorithm>
#include <cassert>

namespace pregate {

void WorkList::Add(int64_t units, int64_t unit_work) {
  assert(units >= 0 && unit_work >= 1);
  items_.push_back({work_, units, unit_work});
  work_ += units * unit_work;
}

void WorkList::Run(Device& device, int64_t grain,
                   absl::FunctionRef<void(int64_t, int64_t, int64_t)> body) const {
  device.ParallelFor(work_, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
    const auto after =
        std::upper_bound(items_.begin(), items_.end(), begin,
                         [](int64_t work, const Item& item) { return work < item.first_work; });
    for (auto item = after - 1; item != items_.end() && item->first_work < end; ++item) {
      // A unit belongs to the share in which its work begins.
      const auto units_before = [&](int64_t work) {
        const int64_t rounded_up = (work - item->first_work + item->unit_work - 1);
        return std::clamp<int64_t>(rounded_up / item->unit_work, 0, item->units);
      };
      const int64_t first = units_before(begin), last = units_before(end);
      if (first < last) body(item - items_.begin(), first, last);
    }
  });
}

}  // namespace pregate
