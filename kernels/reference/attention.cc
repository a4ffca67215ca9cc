#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/reference/reference.h"

namespace pregate::reference {
namespace {

// Half has no room above this; a value beyond it is stored as the largest, never as infinity,
// whose product with a weight of zero would be NaN.
constexpr float kMaxHalf = 65504.0f;

// Stores `dim` floats as one row of values, of a type whose scales, if any, are inside the row.
void StoreRow(const float* x, DType dtype, int64_t dim, void* row) {
  if (dtype == DType::kF32) {
    std::memcpy(row, x, static_cast<size_t>(dim) * sizeof(float));
  } else if (dtype == DType::kF16) {
    for (int64_t i = 0; i < dim; ++i) {
      static_cast<uint16_t*>(row)[i] = FloatToHalf(std::clamp(x[i], -kMaxHalf, kMaxHalf));
    }
  } else if (dtype == DType::kBF16) {
    for (int64_t i = 0; i < dim; ++i) {
      const float value = std::clamp(x[i], -kMaxBFloat16, kMaxBFloat16);
      static_cast<uint16_t*>(row)[i] = FloatToBFloat16(value);
    }
  } else {
    assert(dtype == DType::kQ8_0 && dim % 32 == 0);
    for (int64_t b = 0; b < dim / 32; ++b) {
      const float* in = x + b * 32;
      Q8Block& block = static_cast<Q8Block*>(row)[b];
      float max = 0;
      for (int i = 0; i < 32; ++i) max = std::max(max, std::abs(in[i]));
      block.scale = FloatToHalf(std::min(max / 127.0f, kMaxHalf));
      // Quantised with the scale that will be read back, so that its rounding does no harm.
      const float scale = HalfToFloat(block.scale);
      for (int i = 0; i < 32; ++i) {
        const float q = scale == 0 ? 0 : std::nearbyint(in[i] / scale);
        block.quants[i] = static_cast<int8_t>(std::clamp(q, -127.0f, 127.0f));
      }
    }
  }
}

void LoadRow(const void* row, DType dtype, int64_t dim, double* x) {
  for (int64_t i = 0; i < dim; ++i) {
    if (dtype == DType::kF32) {
      x[i] = static_cast<const float*>(row)[i];
    } else if (dtype == DType::kF16) {
      x[i] = HalfToFloat(static_cast<const uint16_t*>(row)[i]);
    } else if (dtype == DType::kBF16) {
      x[i] = BFloat16ToFloat(static_cast<const uint16_t*>(row)[i]);
    } else {
      assert(dtype == DType::kQ8_0);
      const Q8Block& block = static_cast<const Q8Block*>(row)[i / 32];
      x[i] = double{HalfToFloat(block.scale)} * block.quants[i % 32];
    }
  }
}

// F8_E4M3, keys and values alike: the elements of position `offset` are bytes from `first` on,
// `step` apart.
void StoreF8(const float* x, const KvLayerView& kv, char* part, int64_t offset, int64_t first,
             int64_t step) {
  float max = 0;
  for (int64_t i = 0; i < kv.head_dim; ++i) max = std::max(max, std::abs(x[i]));
  const int exponent = F8Exponent(std::bit_cast<uint32_t>(max));
  KvScales(kv, part)[offset] = F8Scale(exponent);
  for (int64_t i = 0; i < kv.head_dim; ++i) {
    part[first + i * step] = static_cast<char>(FloatToE4M3(std::ldexp(x[i], -exponent)));
  }
}

void LoadF8(const KvLayerView& kv, char* part, int64_t offset, int64_t first, int64_t step,
            double* x) {
  const double scale = HalfToFloat(KvScales(kv, part)[offset]);
  for (int64_t i = 0; i < kv.head_dim; ++i) {
    x[i] = scale * E4M3ToFloat(static_cast<uint8_t>(part[first + i * step]));
  }
}

// The value at `offset` of a part, and the key.
void StoreValue(const float* x, const KvLayerView& kv, char* part, int64_t offset) {
  const int64_t first = offset * RowBytes(kv.dtype, kv.head_dim);
  if (kv.dtype == DType::kF8E4M3) return StoreF8(x, kv, part, offset, first, 1);
  StoreRow(x, kv.dtype, kv.head_dim, part + first);
}

void LoadValue(const KvLayerView& kv, char* part, int64_t offset, double* x) {
  const int64_t first = offset * RowBytes(kv.dtype, kv.head_dim);
  if (kv.dtype == DType::kF8E4M3) return LoadF8(kv, part, offset, first, 1, x);
  LoadRow(part + first, kv.dtype, kv.head_dim, x);
}

// Keys are stored as values are, then each element goes to its place: see kv_layout.h.
void StoreKey(const float* x, const KvLayerView& kv, char* part, int64_t offset) {
  if (kv.dtype == DType::kF8E4M3) return StoreF8(x, kv, part, offset, offset, kv.block_tokens);
  const int64_t dim = kv.head_dim;
  std::vector<char> row(static_cast<size_t>(RowBytes(kv.dtype, dim)));
  StoreRow(x, kv.dtype, dim, row.data());
  for (int64_t i = 0; i < dim; ++i) {
    const int64_t at = KeyIndex(i, kv.block_tokens) + offset;
    if (kv.dtype == DType::kQ8_0) {
      const Q8Block& block = reinterpret_cast<const Q8Block*>(row.data())[i / 32];
      reinterpret_cast<int8_t*>(part)[at] = block.quants[i % 32];
      KvScales(kv, part)[KeyScaleIndex(i, kv.block_tokens) + offset] = block.scale;
    } else {
      const int64_t size = GetDTypeInfo(kv.dtype).block_bytes;
      std::memcpy(part + at * size, row.data() + i * size, static_cast<size_t>(size));
    }
  }
}

void LoadKey(const KvLayerView& kv, char* part, int64_t offset, double* x) {
  if (kv.dtype == DType::kF8E4M3) return LoadF8(kv, part, offset, offset, kv.block_tokens, x);
  for (int64_t i = 0; i < kv.head_dim; ++i) {
    const int64_t at = KeyIndex(i, kv.block_tokens) + offset;
    if (kv.dtype == DType::kQ8_0) {
      const uint16_t scale = KvScales(kv, part)[KeyScaleIndex(i, kv.block_tokens) + offset];
      x[i] = double{HalfToFloat(scale)} * reinterpret_cast<const int8_t*>(part)[at];
    } else {
      LoadRow(part + at * GetDTypeInfo(kv.dtype).block_bytes, kv.dtype, 1, x + i);
    }
  }
}

// One query head over positions [begin, end) of one sequence.
void AttendHead(const float* q, const KvLayerView& kv, const int32_t* blocks, int64_t kv_head,
                int64_t begin, int64_t end, const AttentionParams& params, float* out) {
  const int64_t dim = kv.head_dim;
  const auto part = [&](void* base, int64_t position) {
    return KvPart(kv, base, KvPartBytes(kv), blocks[position / kv.block_tokens], kv_head);
  };
  std::vector<double> element(static_cast<size_t>(dim));
  std::vector<double> weights;
  double max = -INFINITY;
  for (int64_t p = begin; p < end; ++p) {
    LoadKey(kv, part(kv.keys, p), p % kv.block_tokens, element.data());
    double score = 0;
    for (int64_t i = 0; i < dim; ++i) score += q[i] * element[static_cast<size_t>(i)];
    score *= params.scale;
    if (params.soft_cap > 0) score = params.soft_cap * std::tanh(score / params.soft_cap);
    weights.push_back(score);
    max = std::max(max, score);
  }
  double sum = 0;
  std::vector<double> mix(static_cast<size_t>(dim), 0.0);
  for (int64_t p = begin; p < end; ++p) {
    const double weight = std::exp(weights[static_cast<size_t>(p - begin)] - max);
    sum += weight;
    LoadValue(kv, part(kv.values, p), p % kv.block_tokens, element.data());
    for (size_t i = 0; i < mix.size(); ++i) mix[i] += weight * element[i];
  }
  for (size_t i = 0; i < mix.size(); ++i) out[i] = static_cast<float>(mix[i] / sum);
}

}  // namespace

void KvAppend(Device&, ConstTensor k, ConstTensor v, const int32_t* slots, KvLayerView kv) {
  assert(k.rows == v.rows && k.cols == v.cols && k.cols == int64_t{kv.kv_heads} * kv.head_dim);
  for (int64_t r = 0; r < k.rows; ++r) {
    const int64_t block = slots[r] / kv.block_tokens, offset = slots[r] % kv.block_tokens;
    for (int64_t head = 0; head < kv.kv_heads; ++head) {
      StoreKey(k.Row<float>(r) + head * kv.head_dim, kv,
               KvPart(kv, kv.keys, KvPartBytes(kv), block, head), offset);
      StoreValue(v.Row<float>(r) + head * kv.head_dim, kv,
                 KvPart(kv, kv.values, KvPartBytes(kv), block, head), offset);
    }
  }
}

void Attention(Device&, ConstTensor q, KvLayerView kv, const AttentionBatch& batch,
               const AttentionParams& params, Tensor out) {
  assert(params.num_heads % kv.kv_heads == 0);
  assert(q.cols == int64_t{params.num_heads} * kv.head_dim && q.cols == out.cols);
  const int64_t group = params.num_heads / kv.kv_heads;
  for (int32_t s = 0; s < batch.num_sequences; ++s) {
    const int32_t* blocks = batch.block_ids + batch.block_start[s];
    for (int64_t r = batch.row_start[s]; r < batch.row_start[s + 1]; ++r) {
      const int64_t end = batch.context_len[s] - (batch.row_start[s + 1] - r) + 1;
      assert(end > 0);
      const int64_t begin = params.window > 0 ? std::max<int64_t>(0, end - params.window) : 0;
      for (int64_t h = 0; h < params.num_heads; ++h) {
        AttendHead(q.Row<float>(r) + h * kv.head_dim, kv, blocks, h / group, begin, end, params,
                   out.Row<float>(r) + h * kv.head_dim);
      }
    }
  }
}

}  // namespace pregate::reference
