#include "kernels/quant/dequantize.h"

#include <cassert>
#include <cstring>

#include "kernels/quant/formats.h"

namespace pregate {
namespace {

// Four bits of element i (0..31) of 16 nibble-packed bytes.
int Nibble(const uint8_t* q, int i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }

// Bit i of four bytes.
int Bit(const uint8_t* bits, int i) { return bits[i / 8] >> (i % 8) & 1; }

// The 6-bit scale and min of group g, see BlockQ4_K.
struct ScaleMin {
  int scale;
  int min;
};
ScaleMin UnpackScaleMin(const uint8_t* s, int g) {
  if (g < 4) return {s[g] & 63, s[g + 4] & 63};
  return {(s[g + 4] & 15) | s[g - 4] >> 6 << 4, s[g + 4] >> 4 | s[g] >> 6 << 4};
}

void Dequantize(const BlockQ8_0& b, float* out) {
  const float d = HalfToFloat(b.d);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(b.q[i]);
}

void Dequantize(const BlockQ4_0& b, float* out) {
  const float d = HalfToFloat(b.d);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(Nibble(b.q, i) - 8);
}

void Dequantize(const BlockQ4_1& b, float* out) {
  const float d = HalfToFloat(b.d);
  const float m = HalfToFloat(b.m);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(Nibble(b.q, i)) + m;
}

void Dequantize(const BlockQ5_0& b, float* out) {
  const float d = HalfToFloat(b.d);
  for (int i = 0; i < 32; ++i) {
    out[i] = d * static_cast<float>((Nibble(b.q, i) | Bit(b.high, i) << 4) - 16);
  }
}

void Dequantize(const BlockQ5_1& b, float* out) {
  const float d = HalfToFloat(b.d);
  const float m = HalfToFloat(b.m);
  for (int i = 0; i < 32; ++i) {
    out[i] = d * static_cast<float>(Nibble(b.q, i) | Bit(b.high, i) << 4) + m;
  }
}

void Dequantize(const BlockQ4_K& b, float* out) {
  for (int g = 0; g < 8; ++g) {
    const ScaleMin sm = UnpackScaleMin(b.scales, g);
    const float d = HalfToFloat(b.d) * static_cast<float>(sm.scale);
    const float m = HalfToFloat(b.dmin) * static_cast<float>(sm.min);
    for (int i = 0; i < 32; ++i) {
      const int q = b.q[g / 2 * 32 + i] >> (g % 2 * 4) & 15;
      out[g * 32 + i] = d * static_cast<float>(q) - m;
    }
  }
}

void Dequantize(const BlockQ5_K& b, float* out) {
  for (int g = 0; g < 8; ++g) {
    const ScaleMin sm = UnpackScaleMin(b.scales, g);
    const float d = HalfToFloat(b.d) * static_cast<float>(sm.scale);
    const float m = HalfToFloat(b.dmin) * static_cast<float>(sm.min);
    for (int i = 0; i < 32; ++i) {
      const int low = b.q[g / 2 * 32 + i] >> (g % 2 * 4) & 15;
      const int q = low | (b.high[i] >> g & 1) << 4;
      out[g * 32 + i] = d * static_cast<float>(q) - m;
    }
  }
}

void Dequantize(const BlockQ6_K& b, float* out) {
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int quarter = i % 128 / 32;  // of the half: which nibble, which two high bits
    const int low = b.low[half * 64 + i % 64] >> (quarter / 2 * 4) & 15;
    const int high = b.high[half * 32 + i % 32] >> (quarter * 2) & 3;
    const float d = HalfToFloat(b.d) * static_cast<float>(b.scales[i / 16]);
    out[i] = d * static_cast<float>((low | high << 4) - 32);
  }
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
    case DType::kI32:
    case DType::kQ16Act:
      break;
  }
  assert(false && "not a weight type");
}

}  // namespace pregate
