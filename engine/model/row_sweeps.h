// Sweeps over one row of logits. A vocabulary is long and the tokens that matter are few: a row is
// read once or twice in all, as fast as memory gives it, and what a sweep says of each block tells
// which blocks deserve a closer look.
#ifndef PREGATE_ENGINE_MODEL_ROW_SWEEPS_H_
#define PREGATE_ENGINE_MODEL_ROW_SWEEPS_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"

namespace pregate {

// Block b of a row is [b * kRowBlock, (b + 1) * kRowBlock); the last one may be shorter.
inline constexpr size_t kRowBlock = 128;

// The largest logit of each block. NaN counts as -infinity, +infinity as the largest float.
std::vector<float> BlockMaxima(absl::Span<const float> logits);

// What a row's tokens weigh (LogitWeight of kernels/logit_math.h), summed by block. Exact.
std::vector<double> WeightSums(absl::Span<const float> logits, float largest, float scale);
// The same; the weights take the place of the logits.
std::vector<double> WeighInPlace(absl::Span<float> logits, float largest, float scale);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_ROW_SWEEPS_H_
