// The parts of a row of quantised activations.
#ifndef PREGATE_KERNELS_QUANT_Q8_ACT_H_
#define PREGATE_KERNELS_QUANT_Q8_ACT_H_

#include <cassert>
#include <cstdint>
#include <type_traits>

namespace pregate {

// A row of kQ8Act (see DType) of `cols` elements. Byte: char, or const char for reading. The row
// is aligned for floats.
template <typename Byte>
class Q8ActRow {
 public:
  Q8ActRow(Byte* row, int64_t cols) : row_(row), cols_(cols) {
    assert(cols % 32 == 0 && reinterpret_cast<uintptr_t>(row) % alignof(float) == 0);
  }

  int64_t cols() const { return cols_; }
  auto* quants() const { return At<int8_t>(0); }                 // [cols]
  auto* scales() const { return At<float>(cols_); }              // [cols / 32]
  auto* sums() const { return At<int16_t>(cols_ + cols_ / 8); }  // [cols / 16]

 private:
  template <typename T>
  auto* At(int64_t offset) const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    return reinterpret_cast<Element*>(row_ + offset);
  }

  Byte* row_;
  int64_t cols_;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_Q8_ACT_H_
