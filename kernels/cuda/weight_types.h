// From a weight's type as a value to one that a kernel is made for.
#ifndef PREGATE_KERNELS_CUDA_WEIGHT_TYPES_H_
#define PREGATE_KERNELS_CUDA_WEIGHT_TYPES_H_

#include <cassert>

#include "kernels/tensor.h"

namespace pregate::cuda {

// Calls f.operator()<kType>() for the types among kTypes that `dtype` is.
template <DType... kTypes, typename F>
void CallForTypeAmong(DType dtype, const F& f) {
  const bool found = ((dtype == kTypes && (f.template operator()<kTypes>(), true)) || ...);
  assert(found && "not a type that this table multiplies by");
  static_cast<void>(found);
}

// Types that meet activations which are halves.
template <typename F>
void CallForHalvesType(DType dtype, const F& f) {
  CallForTypeAmong<DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
                   DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K,
                   DType::kF8Blocks>(dtype, f);
}
// All types of weights.
template <typename F>
void CallForWeightType(DType dtype, const F& f) {
  if (dtype == DType::kF32) return f.template operator()<DType::kF32>();
  CallForHalvesType(dtype, f);
}

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_WEIGHT_TYPES_H_
