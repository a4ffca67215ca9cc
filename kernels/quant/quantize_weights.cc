#include "kernels/quant/quantize_weights.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "kernels/quant/formats.h"

namespace pregate {
namespace {

// x / step, half to even, within [low, high]; low where the step is zero and for a NaN.
int NearestQuant(float x, float step, int low, int high) {
  const float ratio = step == 0.0f ? 0.0f : std::nearbyint(x / step);
  const float least = static_cast<float>(low), most = static_cast<float>(high);
  return ratio > least ? static_cast<int>(std::min(ratio, most)) : low;
}

// The element with the largest size.
float Largest(const float* x) {
  return *std::max_element(x, x + 32, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
}

void SetNibbles(const uint8_t* q, uint8_t* out) {
  for (int i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>((q[i] & 15) | (q[i + 16] & 15) << 4);
}
void SetFifthBits(const uint8_t* q, uint8_t* out) {
  std::memset(out, 0, 4);
  for (int i = 0; i < 32; ++i) out[i / 8] = static_cast<uint8_t>(out[i / 8] | (q[i] >> 4) << i % 8);
}

// Q4_0 and Q5_0: q - offset reaches from -offset to offset - 1; the largest element meets -offset.
uint16_t QuantizeAround(const float* x, int offset, uint8_t* q) {
  const uint16_t d = FloatToHalf(Largest(x) / static_cast<float>(-offset));
  for (int i = 0; i < 32; ++i) {
    q[i] = static_cast<uint8_t>(offset + NearestQuant(x[i], HalfToFloat(d), -offset, offset - 1));
  }
  return d;
}

// Q4_1 and Q5_1: value = d * q + m with q in [0, most].
struct ScaleAndMinimum {
  uint16_t d;
  uint16_t m;
};
ScaleAndMinimum QuantizeAbove(const float* x, int most, uint8_t* q) {
  const auto [least, largest] = std::minmax_element(x, x + 32);
  const uint16_t half_m = FloatToHalf(*least);
  const float m = HalfToFloat(half_m);
  const uint16_t half_d = FloatToHalf((*largest - m) / static_cast<float>(most));
  for (int i = 0; i < 32; ++i) {
    q[i] = static_cast<uint8_t>(NearestQuant(x[i] - m, HalfToFloat(half_d), 0, most));
  }
  return {half_d, half_m};
}

void Quantize(const float* x, BlockQ8_0* out) {
  out->d = FloatToHalf(std::fabs(Largest(x)) / 127.0f);
  for (int i = 0; i < 32; ++i) {
    out->q[i] = static_cast<int8_t>(NearestQuant(x[i], HalfToFloat(out->d), -127, 127));
  }
}
void Quantize(const float* x, BlockQ4_0* out) {
  uint8_t q[32];
  out->d = QuantizeAround(x, 8, q);
  SetNibbles(q, out->q);
}
void Quantize(const float* x, BlockQ5_0* out) {
  uint8_t q[32];
  out->d = QuantizeAround(x, 16, q);
  SetNibbles(q, out->q);
  SetFifthBits(q, out->high);
}
void Quantize(const float* x, BlockQ4_1* out) {
  uint8_t q[32];
  const ScaleAndMinimum scale = QuantizeAbove(x, 15, q);
  out->d = scale.d;
  out->m = scale.m;
  SetNibbles(q, out->q);
}
void Quantize(const float* x, BlockQ5_1* out) {
  uint8_t q[32];
  const ScaleAndMinimum scale = QuantizeAbove(x, 31, q);
  out->d = scale.d;
  out->m = scale.m;
  SetNibbles(q, out->q);
  SetFifthBits(q, out->high);
}

void Quantize(const float* x, BlockQ13* out) {
  float largest = 0;
  for (int i = 0; i < 128; ++i) largest = std::max(largest, std::fabs(x[i]));
  out->d = largest / static_cast<float>(kMaxQ13);
  for (int i = 0; i < 128; ++i) {
    out->q[i] = static_cast<int16_t>(NearestQuant(x[i], out->d, -kMaxQ13, kMaxQ13));
  }
}

template <typename Block, int kElements = 32>
void QuantizeBlocks(const float* x, int64_t cols, void* out) {
  char* bytes = static_cast<char*>(out);
  for (int64_t k = 0; k < cols; k += kElements, bytes += sizeof(Block)) {
    Block block;  // a copy: blocks of a row are not aligned
    Quantize(x + k, &block);
    std::memcpy(bytes, &block, sizeof(Block));
  }
}

template <uint16_t (*kConvert)(float)>
void ConvertRow(const float* x, int64_t cols, void* out) {
  for (int64_t k = 0; k < cols; ++k) {
    const uint16_t bits = kConvert(x[k]);
    std::memcpy(static_cast<char*>(out) + 2 * k, &bits, 2);
  }
}

}  // namespace

bool CanQuantize(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ13:
      return true;
    default:
      return false;
  }
}

void QuantizeRow(DType dtype, const float* x, int64_t cols, void* out) {
  assert(CanQuantize(dtype) && cols % GetDTypeInfo(dtype).block_elements == 0);
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, x, static_cast<size_t>(cols) * sizeof(float));
      return;
    case DType::kF16:
      return ConvertRow<FloatToHalf>(x, cols, out);
    case DType::kBF16:
      return ConvertRow<FloatToBFloat16>(x, cols, out);
    case DType::kQ8_0:
      return QuantizeBlocks<BlockQ8_0>(x, cols, out);
    case DType::kQ4_0:
      return QuantizeBlocks<BlockQ4_0>(x, cols, out);
    case DType::kQ4_1:
      return QuantizeBlocks<BlockQ4_1>(x, cols, out);
    case DType::kQ5_0:
      return QuantizeBlocks<BlockQ5_0>(x, cols, out);
    case DType::kQ5_1:
      return QuantizeBlocks<BlockQ5_1>(x, cols, out);
    case DType::kQ13:
      return QuantizeBlocks<BlockQ13, 128>(x, cols, out);
    default:
      return;
  }
}

void JoinF8Row(const uint8_t* elements, const float* scales, int64_t cols, void* out) {
  assert(cols % 32 == 0);
  for (int64_t b = 0; b < cols / 32; ++b) {
    BlockF8 block;
    std::memcpy(block.q, elements + b * 32, sizeof(block.q));
    bool nan = false;
    for (const uint8_t q : block.q) nan |= (q & 0x7F) == 0x7F;
    block.d = nan ? std::numeric_limits<float>::quiet_NaN() : scales[b];
    std::memcpy(static_cast<char*>(out) + b * int64_t{sizeof(block)}, &block, sizeof(block));
  }
}

}  // namespace pregate
