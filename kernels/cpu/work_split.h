// How element-wise kernels are shared out: by bytes, so that little work stays on one thread.
#ifndef PREGATE_KERNELS_CPU_WORK_SPLIT_H_
#define PREGATE_KERNELS_CPU_WORK_SPLIT_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "kernels/device.h"
#include "kernels/work_list.h"

namespace pregate {

// body(first_row, last_row) over `rows` rows that each move `row_bytes`.
void ForEachRows(Device& device, int64_t rows, int64_t row_bytes,
                 absl::FunctionRef<void(int64_t, int64_t)> body);

// body(row, first_col, last_col) over a matrix of which each element moves `element_bytes`; long
// rows are cut into strips, so that a batch of one row still feeds every thread.
void ForEachStrip(Device& device, int64_t rows, int64_t cols, int64_t element_bytes,
                  absl::FunctionRef<void(int64_t, int64_t, int64_t)> body);

// The same over several matrices.
class StripList {
 public:
  void Add(int64_t rows, int64_t cols, int64_t element_bytes);
  // body(matrix, row, first_col, last_col); matrices count from 0, in the order of Add.
  void Run(Device& device, absl::FunctionRef<void(int64_t, int64_t, int64_t, int64_t)> body) const;

 private:
  absl::InlinedVector<int64_t, 8> cols_;
  WorkList work_;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_CPU_WORK_SPLIT_H_
