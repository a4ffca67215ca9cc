#include "kernels/cpu/work_split.h"

#include <algorithm>

namespace pregate {
namespace {

// What a thread moves in about the time that a fork and join take.
constexpr int64_t kGrainBytes = 64 << 10;
constexpr int64_t kStripCols = 2048;

}  // namespace

void ForEachRows(Device& device, int64_t rows, int64_t row_bytes,
                 absl::FunctionRef<void(int64_t, int64_t)> body) {
  const int64_t grain = kGrainBytes / std::max<int64_t>(1, row_bytes);
  device.ParallelFor(rows, std::max<int64_t>(1, grain), body);
}

void ForEachStrip(Device& device, int64_t rows, int64_t cols, int64_t element_bytes,
                  absl::FunctionRef<void(int64_t, int64_t, int64_t)> body) {
  const int64_t strips = (cols + kStripCols - 1) / kStripCols;
  ForEachRows(device, rows * strips, std::min(cols, kStripCols) * element_bytes,
              [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                  const int64_t first = i % strips * kStripCols;
                  body(i / strips, first, std::min(first + kStripCols, cols));
                }
              });
}

}  // namespace pregate
