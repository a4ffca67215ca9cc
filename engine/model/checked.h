// Arithmetic on numbers that a file supplied. A sum, product or rounding that does not fit into 64
// bits poisons the result instead of wrapping, and the poison reaches every later result, so a
// whole formula needs one test at its end. No other arithmetic may touch such numbers.
#ifndef PREGATE_ENGINE_MODEL_CHECKED_H_
#define PREGATE_ENGINE_MODEL_CHECKED_H_

#include <cassert>
#include <cstdint>
#include <limits>

namespace pregate {

class CheckedU64 {
 public:
  constexpr CheckedU64(uint64_t value) : value_(value) {}  // NOLINT: numbers mix with it freely

  constexpr bool ok() const { return ok_; }
  // The exact result; ok() must hold.
  constexpr uint64_t value() const {
    assert(ok_);
    return value_;
  }
  // True when the result is exact and at most `limit`.
  constexpr bool AtMost(uint64_t limit) const { return ok_ && value_ <= limit; }

  friend constexpr CheckedU64 operator+(CheckedU64 a, CheckedU64 b) {
    CheckedU64 sum(a.value_ + b.value_);
    sum.ok_ = a.ok_ && b.ok_ && sum.value_ >= a.value_;
    return sum;
  }

  friend constexpr CheckedU64 operator*(CheckedU64 a, CheckedU64 b) {
    CheckedU64 product(a.value_ * b.value_);
    const bool fits = a.value_ == 0 || b.value_ <= std::numeric_limits<uint64_t>::max() / a.value_;
    product.ok_ = a.ok_ && b.ok_ && fits;
    return product;
  }

  // The quotient, when `divisor` is not zero and leaves no remainder.
  constexpr CheckedU64 ExactQuotient(uint64_t divisor) const {
    CheckedU64 quotient(divisor == 0 ? 0 : value_ / divisor);
    quotient.ok_ = ok_ && divisor != 0 && value_ % divisor == 0;
    return quotient;
  }

  // The smallest multiple of `alignment` that is not below this. `alignment` must not be zero.
  constexpr CheckedU64 RoundUp(uint64_t alignment) const {
    assert(alignment != 0);
    const uint64_t remainder = value_ % alignment;
    return remainder == 0 ? *this : *this + CheckedU64(alignment - remainder);
  }

 private:
  uint64_t value_;
  bool ok_ = true;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_CHECKED_H_
