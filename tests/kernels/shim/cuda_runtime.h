// Stands in for the CUDA Toolkit's header of this name where the host's compiler compiles a .cu
// file: as much of CUDA C++ as kernels/cuda uses. Threads of a block are fibers (shim.cc).
#ifndef PREGATE_TESTS_KERNELS_SHIM_CUDA_RUNTIME_H_
#define PREGATE_TESTS_KERNELS_SHIM_CUDA_RUNTIME_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

// NOLINTBEGIN(bugprone-reserved-identifier): these are CUDA's names.
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __grid_constant__
#define __launch_bounds__(...)

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Of the thread that runs.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

void __syncthreads();
void __syncwarp(unsigned mask = 0xFFFFFFFFu);

namespace shim {
// Gives `value` to the warp and returns that of lane `source`; `name` is the operation, the same
// in all lanes.
uint64_t Exchange(const char* name, unsigned mask, uint64_t value, int source);
uint32_t Ballot(unsigned mask, bool vote);
int Lane();

template <typename T>
T ExchangeAs(const char* name, unsigned mask, T value, int source) {
  // Not by memcpy: AddressSanitizer would guard a variable whose address is taken in every call.
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  return std::bit_cast<T>(
      static_cast<Bits>(Exchange(name, mask, std::bit_cast<Bits>(value), source)));
}
}  // namespace shim

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
  return shim::ExchangeAs("__shfl_sync", mask, value, lane % 32);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  return shim::ExchangeAs("__shfl_xor_sync", mask, value, shim::Lane() ^ lane_mask);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int delta) {
  const int source = shim::Lane() + delta;
  return shim::ExchangeAs("__shfl_down_sync", mask, value, source < 32 ? source : shim::Lane());
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int delta) {
  const int source = shim::Lane() - delta;
  return shim::ExchangeAs("__shfl_up_sync", mask, value, source >= 0 ? source : shim::Lane());
}
inline unsigned __ballot_sync(unsigned mask, bool vote) { return shim::Ballot(mask, vote); }
inline bool __any_sync(unsigned mask, bool vote) { return shim::Ballot(mask, vote) != 0; }
inline bool __all_sync(unsigned mask, bool vote) { return shim::Ballot(mask, !vote) == 0; }

// Fibers run one at a time.
template <typename T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address += value;
  return old;
}
template <typename T>
T atomicMax(T* address, T value) {
  const T old = *address;
  if (value > old) *address = value;
  return old;
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t __float_as_uint(float value) { return std::bit_cast<uint32_t>(value); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
// Bytes of the eight in (high, low) that each nibble of `selector` picks.
inline uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t index = selector >> (4 * i) & 7;
    result |= static_cast<uint32_t>(bytes >> (8 * index) & 0xFF) << (8 * i);
  }
  return result;
}
// NOLINTEND(bugprone-reserved-identifier)

#endif  // PREGATE_TESTS_KERNELS_SHIM_CUDA_RUNTIME_H_
