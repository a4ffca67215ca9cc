// A matrix of a model with what a product must know about it.
#ifndef PREGATE_ENGINE_MODEL_LINEAR_H_
#define PREGATE_ENGINE_MODEL_LINEAR_H_

#include "kernels/kernels.h"
#include "kernels/tensor.h"

namespace pregate {

// y = W x + b.
struct Linear {
  PackedWeight weight;          // [out, in]; no rows: the model does not have it
  const float* bias = nullptr;  // [out] or null
  DType input = DType::kF32;    // what the kernel wants x to be: kF32, kQ16Act or kQ8Act

  explicit operator bool() const { return weight.rows > 0; }
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_LINEAR_H_
