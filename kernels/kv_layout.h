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

// Bytes of one head's keys (or values) of one block.
inline int64_t KvPartBytes(const KvLayerView& kv) {
  return kv.block_tokens * RowBytes(kv.dtype, kv.head_dim);
}

// One head's keys (values) of one block; `base` is kv.keys (kv.values).
PREGATE_HOST_DEVICE inline char* KvPart(const KvLayerView& kv, void* base, int64_t part_bytes,
                                        int64_t block, int64_t head) {
  return static_cast<char*>(base) + block * kv.block_stride + head * part_bytes;
}

// The index, in a part of keys, of element i of the key at offset 0, and in Q8KeyScales of its
// scale; those of the next positions follow. `stride` is block_tokens.
PREGATE_HOST_DEVICE inline int64_t KeyIndex(int64_t i, int64_t stride) { return i * stride; }
PREGATE_HOST_DEVICE inline int64_t KeyScaleIndex(int64_t i, int64_t stride) {
  return i / 32 * stride;
}
PREGATE_HOST_DEVICE inline uint16_t* Q8KeyScales(const KvLayerView& kv, char* part) {
  return reinterpret_cast<uint16_t*>(part + int64_t{kv.head_dim} * kv.block_tokens);
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_KV_LAYOUT_H_
