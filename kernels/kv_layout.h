// Where keys and values lie inside a KvLayerView.
//
// A block holds `block_tokens` consecutive positions of one sequence; blocks are `block_stride`
// bytes apart. Its keys, and likewise its values, are kv_heads parts of equal size, one for each
// head. In a part of
//   values  each position has a row of head_dim elements: [block_tokens][head_dim], in Q8_0
//           [block_tokens][head_dim / 32] of Q8Block.
//   keys    each element has a row of positions: [head_dim][block_tokens], in Q8_0 int8 quants of
//           that shape, then half scales [head_dim / 32][block_tokens]. A query's scores for
//           consecutive positions thus form along a vector, straight from the cache; what the
//           vector holds of positions not yet written is masked afterwards.
// In F8_E4M3 both are bytes of the shape above, then half scales [block_tokens]: one for each
// position, a power of two, so that a head's vector uses all of the format's range whatever its
// size, and scaling rounds nothing.
#ifndef PREGATE_KERNELS_KV_LAYOUT_H_
#define PREGATE_KERNELS_KV_LAYOUT_H_

#include <cstdint>

#include "kernels/kernels.h"

namespace pregate {

// A Q8_0 block as the GGUF specification lays it out: x[i] = scale * quants[i].
struct Q8Block {
  uint16_t scale;  // half
  int8_t quants[32];
};
static_assert(sizeof(Q8Block) == 34);

// Whether caches can be of this type.
bool IsKvType(DType dtype);

// What kBF16 saturates at: the largest that is no infinity, whose product with a weight of zero
// would be NaN.
inline constexpr float kMaxBFloat16 = 0x1.FEp127f;

// The scale 2^n of an F8_E4M3 vector, from the bits of its largest magnitude: the smallest that
// leaves no element above 448, inside [kF8LeastExponent, kF8MostExponent]. Elements beyond 448 *
// 2^7 saturate, so that all are numbers of a half's range.
inline constexpr int kF8LeastExponent = -14;
inline constexpr int kF8MostExponent = 7;
PREGATE_HOST_DEVICE inline int F8Exponent(uint32_t magnitude) {
  // 448 is 1.75 * 2^8: what has a larger mantissa needs the next power.
  const int n = static_cast<int>((magnitude + 0x1FFFFFu) >> 23) - (127 + 8);
  return n < kF8LeastExponent ? kF8LeastExponent : n > kF8MostExponent ? kF8MostExponent : n;
}
// As a half.
PREGATE_HOST_DEVICE inline uint16_t F8Scale(int exponent) {
  return static_cast<uint16_t>((exponent + 15) << 10);
}

// One head's keys (values) of one block; `base` is kv.keys (kv.values).
PREGATE_HOST_DEVICE inline char* KvPart(const KvLayerView& kv, void* base, int64_t part_bytes,
                                        int64_t block, int64_t head) {
  return static_cast<char*>(base) + block * kv.block_stride + head * part_bytes;
}

// The index, in a part of keys, of element i of the key at offset 0, and in KvScales of its scale
// in Q8_0; those of the next positions follow. `stride` is block_tokens.
PREGATE_HOST_DEVICE inline int64_t KeyIndex(int64_t i, int64_t stride) { return i * stride; }
PREGATE_HOST_DEVICE inline int64_t KeyScaleIndex(int64_t i, int64_t stride) {
  return i / 32 * stride;
}
// The scales of a part: of keys in Q8_0, of both in F8_E4M3.
PREGATE_HOST_DEVICE inline uint16_t* KvScales(const KvLayerView& kv, char* part) {
  return reinterpret_cast<uint16_t*>(part + int64_t{kv.head_dim} * kv.block_tokens);
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_KV_LAYOUT_H_
