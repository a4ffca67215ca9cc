#include "kernels/kv_layout.h"

namespace pregate {

bool IsKvType(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kQ8_0 || dtype == DType::kF8E4M3;
}

int64_t KvPartBytes(const KvLayerView& kv) {
  const int64_t bytes = kv.block_tokens * RowBytes(kv.dtype, kv.head_dim);
  if (kv.dtype != DType::kF8E4M3) return bytes;
  // With the scales; a multiple of 16, by which kernels read.
  return (bytes + kv.block_tokens * 2 + 15) / 16 * 16;
}

}  // namespace pregate
