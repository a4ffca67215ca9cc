// The parts of a row of quantised activations.
#ifndef PREGATE_KERNELS_QUANT_Q16_ACT_H_
#define PREGATE_KERNELS_QUANT_Q16_ACT_H_

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <type_traits>

namespace pregate {

// The largest quant: both of its bytes stay in [-127, 127].
inline constexpr int kMaxQ16 = 127 * 256;

// A row of kQ16Act (see DType) of `cols` elements. Byte: char, or const char for reading. The row
// is aligned for floats.
template <typename Byte>
class Q16ActRow {
 public:
  Q16ActRow(Byte* row, int64_t cols) : row_(row), cols_(cols) {
    assert(cols % 32 == 0 && reinterpret_cast<uintptr_t>(row) % alignof(float) == 0);
  }

  int64_t cols() const { return cols_; }
  auto* high() const { return At<int8_t>(0); }                       // [cols]
  auto* low() const { return At<int8_t>(cols_); }                    // [cols]
  auto* scales() const { return At<float>(2 * cols_); }              // [cols / 32]
  auto* sums() const { return At<int32_t>(2 * cols_ + cols_ / 8); }  // [cols / 16]

  int Quant(int64_t k) const { return 256 * high()[k] + low()[k]; }

 private:
  template <typename T>
  auto* At(int64_t offset) const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    return reinterpret_cast<Element*>(row_ + offset);
  }

  Byte* row_;
  int64_t cols_;
};

// A quant as its two bytes. Byte products of signed weights cannot take -128, so a low byte that
// would have to be -128 is -127: the quant is one step larger.
struct Q16Bytes {
  int high;
  int low;
};
inline Q16Bytes SplitQ16(int quant) {
  const int high = (quant + 128) >> 8;
  return {high, std::max(quant - 256 * high, -127)};
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_Q16_ACT_H_
