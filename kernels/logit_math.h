// Arithmetic on logits that comes out the same to the bit wherever it is done, so that one random
// number draws one token on every device. What is written here, operation by operation in floats
// and with nothing contracted, is what vectors and GPUs do.
#ifndef PREGATE_KERNELS_LOGIT_MATH_H_
#define PREGATE_KERNELS_LOGIT_MATH_H_

#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/kernels.h"

namespace pregate {

// 2^r for |r| <= 1/2 by Horner's rule, highest power first; least relative error: 1e-7.
inline constexpr float kExp2C5 = 0.00132647268f, kExp2C4 = 0.00967151267f, kExp2C3 = 0.0555073374f,
                       kExp2C2 = 0.240222421f, kExp2C1 = 0.693146978f;
inline constexpr float kLargestFloat = std::numeric_limits<float>::max();
// 2^y is 0 from here on.
inline constexpr float kExp2Low = -127.0f;
// Adding it leaves the nearest integer in the low bits of a float.
inline constexpr float kNearestInteger = 0x1.8p23f;
// Adding it and taking it off again leaves a weight that is a multiple of kWeightUnit.
inline constexpr float kNearestWeight = 0x1p-9f;

// Weights are multiples of this and at most 1. So sums of a vocabulary of them are exact in double,
// and as integers, in whatever order they are added.
inline constexpr double kWeightUnit = 0x1p-32;

// log2(e) / temperature. temperature > 0.
inline float WeightScale(float temperature) { return 1.44269504f / temperature; }

// What a token weighs in a draw: exp((logit - largest) / temperature), of which weights of 1e-4 and
// more have 6 digits. Exactly 1 for `largest` itself; 0 for -infinity, NaN and what is below 2^-33.
inline float LogitWeight(float logit, float largest, float scale) {
  const float finite = kLargestFloat < logit ? kLargestFloat : logit;
  const float y = (finite - largest) * scale;
  const float clamped = y > kExp2Low ? y : kExp2Low;  // NaN goes there as well
  const float shifted = clamped + kNearestInteger;
  const float r = clamped - (shifted - kNearestInteger);
  float power = r * kExp2C5 + kExp2C4;
  power = power * r + kExp2C3;
  power = power * r + kExp2C2;
  power = power * r + kExp2C1;
  power = power * r + 1.0f;
  // The integer goes to the exponent; what 2^-127 becomes are the bits of 0.
  const auto weight = std::bit_cast<float>(std::bit_cast<uint32_t>(power) +
                                           (std::bit_cast<uint32_t>(shifted) << 23));
  return (weight + kNearestWeight) - kNearestWeight;
}

inline float EditedLogit(float logit, const LogitEdit& edit) {
  logit += edit.bias;
  logit = logit > 0 ? logit / edit.repetition : logit * edit.repetition;
  return logit - edit.penalty;
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_LOGIT_MATH_H_
