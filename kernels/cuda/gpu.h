// The language of the .cu files: launching a kernel, shared memory, and the few instructions that
// CUDA C++ has no word for.
//
// A .cu file is compiled twice. nvcc makes code for the GPU of it. The tests compile it with the
// host's compiler against headers of their own (tests/kernels/shim), in which the threads of a
// block are fibers; so the logic of every kernel is tested, under AddressSanitizer, where there is
// no GPU. Three rules keep that possible: shared memory is what SharedMemory returns (no
// `__shared__` variables), kernels start through Launch, and assembly stands here alone.
#ifndef PREGATE_KERNELS_CUDA_GPU_H_
#define PREGATE_KERNELS_CUDA_GPU_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/cuda/gpu_device.h"

// Before a loop that must be unrolled, as that its arrays stay in registers.
#ifdef __CUDACC__
#define PREGATE_UNROLL _Pragma("unroll")
#else
#define PREGATE_UNROLL
#endif

namespace pregate {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// How many blocks of how many threads, and the bytes of shared memory of each block.
struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
};

#ifdef __CUDACC__

namespace gpu_internal {
// Ends the process: no later call on the device could succeed.
void CheckLaunch(cudaError_t error, const char* what);
}  // namespace gpu_internal

// Runs kernel(args...) on the device, after everything issued before. Nothing happens where there
// are no blocks.
template <typename... Params, typename... Args>
void Launch(Device& device, void (*kernel)(Params...), const Grid& grid, Args&&... args) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  if (grid.shared_bytes > 48 * 1024) {  // more must be asked for
    gpu_internal::CheckLaunch(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(grid.shared_bytes)),
                              "shared memory");
  }
  kernel<<<grid.blocks, grid.threads, grid.shared_bytes,
           static_cast<cudaStream_t>(AsGpu(device).stream())>>>(std::forward<Args>(args)...);
  gpu_internal::CheckLaunch(cudaGetLastError(), "launch");
}

// The block's shared memory, 16-byte aligned.
__device__ __forceinline__ char* SharedMemory() {
  extern __shared__ __align__(16) char pregate_shared_memory[];
  return pregate_shared_memory;
}

// --- Halves: as bit patterns, two in a word with the first in the low bits. ---

__device__ __forceinline__ float FromHalf(uint16_t half) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
  return value;
}
// Rounds to nearest even.
__device__ __forceinline__ uint16_t ToHalf(float value) {
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
  return half;
}
__device__ __forceinline__ uint32_t SubHalves(uint32_t a, uint32_t b) {
  uint32_t result;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}
// a * b + c, rounded once.
__device__ __forceinline__ uint32_t FmaHalves(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

// d += a b on the tensor cores, by a whole warp: a [16, 16] and b [16, 8] halves, d [16, 8] floats
// (PTX mma.sync.m16n8k16). Lane l, with g = l / 4 and t = l % 4, holds
//   a  rows g, g + 8 (words 0 and 2, 1 and 3) and columns 2t, 2t + 1 (words 0, 1), 2t + 8, 2t + 9
//   b  column g and rows 2t, 2t + 1 (word 0), 2t + 8, 2t + 9 (word 1)
//   d  rows g (0, 1), g + 8 (2, 3) and columns 2t, 2t + 1
__device__ __forceinline__ void MmaHalves(float (&d)[4], const uint32_t (&a)[4],
                                          const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// --- Copies from global to shared memory that go on while the thread works. ---

// 16 bytes, both addresses aligned to 16; those behind the first `valid` become zeros.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* global, int valid = 16) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
               "r"(valid)
               : "memory");
}
// Closes a group of this thread's copies.
__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until all but this thread's newest kPending groups have arrived. Other threads see them
// behind the next barrier.
template <int kPending>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Memory that is read once: it should not push others out of the level-1 cache.
__device__ __forceinline__ uint4 LoadOnce(const uint4* address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}
__device__ __forceinline__ uint2 LoadOnce(const uint2* address) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "l"(address));
  return v;
}

#else  // the shim's, see above

namespace gpu_internal {
void RunOnShim(const Grid& grid, void (*thread)(void*), void* kernel_and_arguments);
// A word of what is launched, for a check that what is recorded does not change.
void NoteOnShim(uint64_t word);
template <typename T>
void NoteArgument(const T& argument) {
  if constexpr (requires { argument.stride; }) {  // a tensor
    NoteOnShim(reinterpret_cast<uintptr_t>(argument.data));
    NoteOnShim(static_cast<uint64_t>(argument.rows));
  } else if constexpr (std::is_pointer_v<T>) {
    NoteOnShim(reinterpret_cast<uintptr_t>(argument));
  } else if constexpr (std::is_integral_v<T>) {
    NoteOnShim(static_cast<uint64_t>(argument));
  }
}
}  // namespace gpu_internal

template <typename... Params, typename... Args>
void Launch(Device&, void (*kernel)(Params...), const Grid& grid, Args&&... args) {
  gpu_internal::NoteArgument(kernel);
  for (const dim3& size : {grid.blocks, grid.threads}) {
    gpu_internal::NoteOnShim((uint64_t{size.x} << 32) + (uint64_t{size.y} << 16) + size.z);
  }
  (gpu_internal::NoteArgument(args), ...);
  auto call = [&] { kernel(args...); };
  gpu_internal::RunOnShim(
      grid, [](void* c) { (*static_cast<decltype(call)*>(c))(); }, &call);
}

char* SharedMemory();
float FromHalf(uint16_t half);
uint16_t ToHalf(float value);
uint32_t SubHalves(uint32_t a, uint32_t b);
uint32_t FmaHalves(uint32_t a, uint32_t b, uint32_t c);
void MmaHalves(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void CopyAsync16(void* shared, const void* global, int valid = 16);
void CommitCopies();
void WaitForCopiesBut(int pending);
template <int kPending>
void WaitForCopies() {
  WaitForCopiesBut(kPending);
}
inline uint4 LoadOnce(const uint4* address) { return *address; }
inline uint2 LoadOnce(const uint2* address) { return *address; }

#endif

// --- In terms of the above. ---

template <typename T>
__device__ __forceinline__ T* SharedArray(size_t byte_offset = 0) {
  return reinterpret_cast<T*>(SharedMemory() + byte_offset);
}

__device__ __forceinline__ uint32_t PackHalves(float low, float high) {
  return ToHalf(low) | static_cast<uint32_t>(ToHalf(high)) << 16;
}

// E4M3 as halves in units of 256: sign, exponent and mantissa in a half's places, exact.
inline constexpr float kE4M3Unit = 256.0f;
// Two that lie in the upper bytes of a word's halves.
__device__ __forceinline__ uint32_t HalvesOfE4M3(uint32_t word) {
  return (word & 0x80008000u) | (word & 0x7F007F00u) >> 1;
}
// Bytes 0 and 1, or 2 and 3, of a word there.
__device__ __forceinline__ uint32_t PairOfE4M3(uint32_t word, bool second) {
  return __byte_perm(word, 0, second ? 0x3424 : 0x1404);
}

// Sums and maxima over a warp, in one order; every lane gets the result.
__device__ __forceinline__ float WarpSum(float value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}
__device__ __forceinline__ float WarpMax(float value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// Sum over the block of up to 1024 threads, whole warps, in one order; every thread gets it.
// `room` is shared memory for 33 floats that nothing else uses meanwhile.
__device__ __forceinline__ float BlockSum(float value, float* room) {
  value = WarpSum(value);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (lane == 0) room[warp] = value;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  if (warp == 0) {
    value = WarpSum(lane < warps ? room[lane] : 0.0f);
    if (lane == 0) room[kWarp] = value;
  }
  __syncthreads();
  value = room[kWarp];
  __syncthreads();  // the room may be used again
  return value;
}

inline unsigned Blocks(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_GPU_H_
