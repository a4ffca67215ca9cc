// Scratch: memory that a thread works in, kept between calls. Private to kernels.
#ifndef PREGATE_KERNELS_SCRATCH_H_
#define PREGATE_KERNELS_SCRATCH_H_

#include <cassert>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace pregate {

template <typename T>
class Scratch {
 public:
  // Room for `count` values, 64-byte aligned. What an earlier call gave may be gone.
  T* Get(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    if (bytes > size_) {
      memory_.reset();
      memory_.reset(std::aligned_alloc(64, bytes));
      assert(memory_ != nullptr);
      size_ = bytes;
    }
    return static_cast<T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> memory_;
  size_t size_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_SCRATCH_H_
