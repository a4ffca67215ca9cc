#include "kernels/tensor.h"

#include <array>
#include <bit>
#include <cassert>

namespace pregate {
namespace {

// Block layouts of `ggml_type`; kQ16Act, kQ8Act: see ActivationGroup; kQ13, kF8Blocks: formats.h.
constexpr std::array<DTypeInfo, kNumDTypes> kInfo = {{
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"I32", 1, 4},
    {"Q8_0", 32, 34},
    {"Q4_0", 32, 18},
    {"Q4_1", 32, 20},
    {"Q5_0", 32, 22},
    {"Q5_1", 32, 24},
    {"Q4_K", 256, 144},
    {"Q5_K", 256, 176},
    {"Q6_K", 256, 210},
    {"Q16_ACT", 32, 92},
    {"Q8_ACT", 32, 92},
    {"Q13", 128, 260},
    {"F8_E4M3", 1, 1},
    {"F8_BLOCKS", 32, 36},
}};

}  // namespace

const DTypeInfo& GetDTypeInfo(DType dtype) {
  assert(static_cast<int>(dtype) < kNumDTypes);
  return kInfo[static_cast<size_t>(dtype)];
}

int64_t RowBytes(DType dtype, int64_t cols) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  assert(cols >= 0 && cols % info.block_elements == 0);
  return cols / info.block_elements * info.block_bytes;
}

ConstTensor MakeView(const void* data, DType dtype, int64_t rows, int64_t cols) {
  return {data, dtype, rows, cols, RowBytes(dtype, cols)};
}

Tensor MakeView(void* data, DType dtype, int64_t rows, int64_t cols) {
  return {data, dtype, rows, cols, RowBytes(dtype, cols)};
}

float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1Fu;
  const uint32_t mantissa = half & 0x3FFu;
  if (exponent == 0) {  // zero or subnormal: the mantissa counts steps of 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 127 - 15) << 23) | (mantissa << 13));
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {  // NaN: keep the payload's top bits, made quiet
    return static_cast<uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
  }
  if (magnitude < 0x38800000u) {
    // Below 2^-14: adding 0.5 makes the float adder round to steps of 2^-24, ties to even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000u));
  }
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7C00u);  // 2^16 and above
  const uint32_t odd = (magnitude >> 13) & 1u;
  const uint32_t rounded = magnitude - (uint32_t{127 - 15} << 23) + 0xFFFu + odd;
  return static_cast<uint16_t>(sign | (rounded >> 13));  // may carry into infinity, as it should
}

float BFloat16ToFloat(uint16_t bf16) { return std::bit_cast<float>(uint32_t{bf16} << 16); }

uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

// Sign, exponent and mantissa in the places of a half's, whose exponents are 8 higher.
float E4M3ToFloat(uint8_t e4m3) {
  const auto half = static_cast<uint16_t>((e4m3 & 0x80u) << 8 | (e4m3 & 0x7Fu) << 7);
  return HalfToFloat(half) * 256.0f;
}

uint8_t FloatToE4M3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 24 & 0x80u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude >= std::bit_cast<uint32_t>(kMaxE4M3)) return static_cast<uint8_t>(sign | 0x7Eu);
  if (magnitude < std::bit_cast<uint32_t>(0x1p-6f)) {
    // Adding 2^14 makes the float adder round to steps of 2^-9, ties to even.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
    const uint32_t steps = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0x1p14f);
    return static_cast<uint8_t>(sign | steps);
  }
  const uint32_t rounded =
      magnitude - (uint32_t{127 - 7} << 23) + 0x7FFFFu + (magnitude >> 20 & 1u);
  return static_cast<uint8_t>(sign | rounded >> 20);
}

}  // namespace pregate
