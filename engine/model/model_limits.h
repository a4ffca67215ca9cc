// Bounds of what a model may be. No public model comes near them; they keep the products of any
// few of these numbers within 64 bits and refuse absurd files early.
#ifndef PREGATE_ENGINE_MODEL_MODEL_LIMITS_H_
#define PREGATE_ENGINE_MODEL_MODEL_LIMITS_H_

#include <cstdint>

namespace pregate {

inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxHiddenSize = 1 << 17;
inline constexpr int64_t kMaxFfnSize = 1 << 20;
inline constexpr int64_t kMaxExperts = 1024;  // of a layer
inline constexpr int64_t kMaxHeads = 1024;
inline constexpr int64_t kMaxHeadDim = 256;
inline constexpr int64_t kMaxContext = 1 << 24;
inline constexpr int64_t kMaxVocab = 1 << 20;
inline constexpr int64_t kMaxMerges = 1 << 20;

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_MODEL_LIMITS_H_
