// A row of logits as a block sees it: what its tokens weigh (kernels/logit_math.h, to the bit), and
// sums of that, which are exact as integers and so the same in any order.
#ifndef PREGATE_KERNELS_CUDA_LOGIT_ROW_H_
#define PREGATE_KERNELS_CUDA_LOGIT_ROW_H_

#include "kernels/cuda/gpu.h"
#include "kernels/logit_math.h"

namespace pregate {

// What a logit counts as.
__device__ __forceinline__ float CountedLogit(float logit) {
  if (logit != logit) return -INFINITY;
  return kLargestFloat < logit ? kLargestFloat : logit;
}

struct LogitRow {
  const float* logits;
  int vocab;
  float largest;  // of what they count as, and above -infinity
  float scale;

  // LogitWeight, operation by operation.
  __device__ __forceinline__ float WeightOf(float logit) const {
    const float finite = kLargestFloat < logit ? kLargestFloat : logit;
    const float y = __fmul_rn(__fadd_rn(finite, -largest), scale);
    const float clamped = y > kExp2Low ? y : kExp2Low;
    const float shifted = __fadd_rn(clamped, kNearestInteger);
    const float r = __fadd_rn(clamped, -__fadd_rn(shifted, -kNearestInteger));
    float power = __fadd_rn(__fmul_rn(r, kExp2C5), kExp2C4);
    power = __fadd_rn(__fmul_rn(power, r), kExp2C3);
    power = __fadd_rn(__fmul_rn(power, r), kExp2C2);
    power = __fadd_rn(__fmul_rn(power, r), kExp2C1);
    power = __fadd_rn(__fmul_rn(power, r), 1.0f);
    const float weight = __uint_as_float(__float_as_uint(power) + (__float_as_uint(shifted) << 23));
    return __fadd_rn(__fadd_rn(weight, kNearestWeight), -kNearestWeight);
  }
  __device__ __forceinline__ float Weight(int id) const { return WeightOf(logits[id]); }
};

// A weight in units of kWeightUnit.
__device__ __forceinline__ uint64_t UnitsOf(float weight) {
  return static_cast<uint64_t>(weight * 0x1p32f);
}

__device__ __forceinline__ uint64_t WarpSum(uint64_t value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// Sum over the block, whole warps; every thread gets it. `room`: kWarp words of shared memory that
// nothing else uses meanwhile.
__device__ __forceinline__ uint64_t BlockSum(uint64_t value, uint64_t* room) {
  value = WarpSum(value);
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = value;
  __syncthreads();
  const auto lane = threadIdx.x % kWarp;
  value = WarpSum(lane < blockDim.x / kWarp ? room[lane] : uint64_t{0});
  __syncthreads();  // the room may be used again
  return value;
}

// What all tokens of a row weigh, in units.
__device__ __forceinline__ uint64_t RowSum(const LogitRow& row, uint64_t* room) {
  uint64_t sum = 0;
  for (int id = static_cast<int>(threadIdx.x); id < row.vocab; id += static_cast<int>(blockDim.x)) {
    sum += UnitsOf(row.Weight(id));
  }
  return BlockSum(sum, room);
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_LOGIT_ROW_H_
