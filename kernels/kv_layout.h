// Where one position's key or value of one head lies inside a KvLayerView.
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

// `base` is kv.keys or kv.values; rows are RowBytes(kv.dtype, kv.head_dim) bytes, `row_bytes`.
inline char* KvRow(const KvLayerView& kv, void* base, int64_t row_bytes, int64_t block,
                   int64_t head, int64_t offset) {
  return static_cast<char*>(base) + block * kv.block_stride +
         (head * kv.block_tokens + offset) * row_bytes;
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_KV_LAYOUT_H_
