#include "kernels/cpu/work_split.h"

#include <algorithm>

namespace pregate {
namespace {

// What a thread moves in about the time that a fork and join take.
constexpr int64_t kGrainBytes = 64 << 10;
constexpr int64_t kStripCols = 2048;

int64_t NumStrips(int64_t cols) { return (cols + kStripCols - 1) / kStripCols; }

}  // namespace

void ForEachRows(Device& device, int64_t rows, int64_t row_bytes,
                 absl::FunctionRef<void(int64_t, int64_t)> body) {
  const int64_t grain = kGrainBytes / std::max<int64_t>(1, row_bytes);
  device.ParallelFor(rows, std::max<int64_t>(1, grain), body);
}

void ForEachStrip(Device& device, int64_t rows, int64_t cols, int64_t element_bytes,
                  absl::FunctionRef<void(int64_t, int64_t, int64_t)> body) {
  StripList strips;
  strips.Add(rows, cols, element_bytes);
  strips.Run(device,
             [&](int64_t, int64_t row, int64_t first, int64_t last) { body(row, first, last); });
}

void StripList::Add(int64_t rows, int64_t cols, int64_t element_bytes) {
  cols_.push_back(cols);
  const int64_t strip = std::max<int64_t>(1, std::min(cols, kStripCols));
  work_.Add(rows * NumStrips(cols), strip * element_bytes);
}

void StripList::Run(Device& device,
                    absl::FunctionRef<void(int64_t, int64_t, int64_t, int64_t)> body) const {
  work_.Run(device, kGrainBytes, [&](int64_t matrix, int64_t begin, int64_t end) {
    const int64_t cols = cols_[static_cast<size_t>(matrix)];
    const int64_t strips = NumStrips(cols);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % strips * kStripCols;
      body(matrix, i / strips, first, std::min(first + kStripCols, cols));
    }
  });
}

}  // namespace pregate
