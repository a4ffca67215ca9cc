// Floats as integers in the same order, and as one number with where they stand, so that the best
// of many is the largest number.
#ifndef PREGATE_KERNELS_CUDA_ORDERED_KEYS_H_
#define PREGATE_KERNELS_CUDA_ORDERED_KEYS_H_

#include "kernels/cuda/gpu.h"

namespace pregate {

// The key of a float that has these bits and is no NaN. That of -0 is below that of 0; none is 0.
__device__ __forceinline__ uint32_t OrderedKey(uint32_t bits) {
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float FloatOfKey(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7FFFFFFFu : ~key);
}

// A key and its position: of two keys alike the lower position is the larger entry. 0 is none.
__device__ __forceinline__ uint64_t EntryOf(uint32_t key, int position) {
  return uint64_t{key} << 32 | ~static_cast<uint32_t>(position);
}
__device__ __forceinline__ uint32_t KeyOfEntry(uint64_t entry) {
  return static_cast<uint32_t>(entry >> 32);
}
__device__ __forceinline__ int PositionOfEntry(uint64_t entry) {
  return static_cast<int>(~static_cast<uint32_t>(entry));
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_ORDERED_KEYS_H_
