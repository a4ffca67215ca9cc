#include "kernels/quant/dequantize.h"

#include <cassert>
#include <cstring>

#include "kernels/quant/formats.h"
#include "kernels/quant/unpack.h"

namespace pregate {
namespace {

// out[0, 32) = d * (q - offset) for group g.
template <typename Block>
void ScaleQuants(const Block& b, int g, int offset, float d, float* out) {
  uint8_t q[32];
  UnpackQuants(b, g, q);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i] - offset);
}

void AddToGroup(float m, float* out) {
  for (int i = 0; i < 32; ++i) out[i] += m;
}

void Dequantize(const BlockQ8_0& b, float* out) { ScaleQuants(b, 0, 128, HalfToFloat(b.d), out); }
void Dequantize(const BlockQ4_0& b, float* out) { ScaleQuants(b, 0, 8, HalfToFloat(b.d), out); }
void Dequantize(const BlockQ5_0& b, float* out) { ScaleQuants(b, 0, 16, HalfToFloat(b.d), out); }

// Q4_1 and Q5_1.
template <typename Block>
void DequantizeWithMinimum(const Block& b, float* out) {
  ScaleQuants(b, 0, 0, HalfToFloat(b.d), out);
  AddToGroup(HalfToFloat(b.m), out);
}
void Dequantize(const BlockQ4_1& b, float* out) { DequantizeWithMinimum(b, out); }
void Dequantize(const BlockQ5_1& b, float* out) { DequantizeWithMinimum(b, out); }

// Q4_K and Q5_K.
template <typename Block>
void DequantizeSuperBlock(const Block& b, float* out) {
  for (int g = 0; g < 8; ++g, out += 32) {
    const ScaleMin packed = UnpackScaleMin(b.scales, g);
    ScaleQuants(b, g, 0, HalfToFloat(b.d) * static_cast<float>(packed.scale), out);
    AddToGroup(-(HalfToFloat(b.dmin) * static_cast<float>(packed.min)), out);
  }
}
void Dequantize(const BlockQ4_K& b, float* out) { DequantizeSuperBlock(b, out); }
void Dequantize(const BlockQ5_K& b, float* out) { DequantizeSuperBlock(b, out); }

void Dequantize(const BlockQ6_K& b, float* out) {
  for (int g = 0; g < 8; ++g, out += 32) {
    uint8_t q[32];
    UnpackQuants(b, g, q);
    for (int i = 0; i < 32; ++i) {
      const float d = HalfToFloat(b.d) * static_cast<float>(b.scales[2 * g + i / 16]);
      out[i] = d * static_cast<float>(q[i] - 32);
    }
  }
}

void Dequantize(const BlockQ13& b, float* out) {
  for (int i = 0; i < 128; ++i) out[i] = b.d * static_cast<float>(b.q[i]);
}

void Dequantize(const BlockF8& b, float* out) {
  for (int i = 0; i < 32; ++i) out[i] = b.d * E4M3ToFloat(b.q[i]);
}

template <typename Block>
void DequantizeBlocks(const void* src, int64_t cols, int block_elements, float* out) {
  const char* bytes = static_cast<const char*>(src);
  for (int64_t k = 0; k < cols; k += block_elements, bytes += sizeof(Block)) {
    Block block;  // a copy: blocks in a file are not aligned
    std::memcpy(&block, bytes, sizeof(Block));
    Dequantize(block, out + k);
  }
}

template <float (*kConvert)(uint16_t)>
void ConvertRow(const void* src, int64_t cols, float* out) {
  for (int64_t k = 0; k < cols; ++k) {
    uint16_t bits;
    std::memcpy(&bits, static_cast<const char*>(src) + 2 * k, 2);
    out[k] = kConvert(bits);
  }
}

}  // namespace

void DequantizeRow(DType dtype, const void* src, int64_t cols, float* out) {
  const int block = GetDTypeInfo(dtype).block_elements;
  assert(cols % block == 0);
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, src, static_cast<size_t>(cols) * sizeof(float));
      return;
    case DType::kF16:
      return ConvertRow<HalfToFloat>(src, cols, out);
    case DType::kBF16:
      return ConvertRow<BFloat16ToFloat>(src, cols, out);
    case DType::kQ8_0:
      return DequantizeBlocks<BlockQ8_0>(src, cols, block, out);
    case DType::kQ4_0:
      return DequantizeBlocks<BlockQ4_0>(src, cols, block, out);
    case DType::kQ4_1:
      return DequantizeBlocks<BlockQ4_1>(src, cols, block, out);
    case DType::kQ5_0:
      return DequantizeBlocks<BlockQ5_0>(src, cols, block, out);
    case DType::kQ5_1:
      return DequantizeBlocks<BlockQ5_1>(src, cols, block, out);
    case DType::kQ4_K:
      return DequantizeBlocks<BlockQ4_K>(src, cols, block, out);
    case DType::kQ5_K:
      return DequantizeBlocks<BlockQ5_K>(src, cols, block, out);
    case DType::kQ6_K:
      return DequantizeBlocks<BlockQ6_K>(src, cols, block, out);
    case DType::kQ13:
      return DequantizeBlocks<BlockQ13>(src, cols, block, out);
    case DType::kF8Blocks:
      return DequantizeBlocks<BlockF8>(src, cols, block, out);
    case DType::kI32:
    case DType::kQ16Act:
    case DType::kQ8Act:
    case DType::kF8E4M3:
      break;
  }
  assert(false && "not a weight type");
}

}  // namespace pregate
