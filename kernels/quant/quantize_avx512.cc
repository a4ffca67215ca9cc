// Activations to integers, for AVX-512: the arithmetic of the reference, sixteen elements at a
// time. GCC 12 takes the deliberately undefined operands inside its AVX-512 intrinsics for
// mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstdint>

#include "kernels/quant/activations.h"
#include "kernels/quant/entries.h"

namespace pregate {
namespace {

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")

// Half of a group: quants half to even (a NaN becomes the smallest), as bytes; returns their sum.
template <DType kType>
inline int32_t QuantizeHalf(__m512 x, float inverse, int8_t* high_out, int8_t* low_out) {
  constexpr int kLimit = kType == DType::kQ16Act ? kMaxQ16 : kMaxQ8;
  const __m512 ratio = _mm512_max_ps(_mm512_mul_ps(x, _mm512_set1_ps(inverse)),
                                     _mm512_set1_ps(static_cast<float>(-kLimit)));
  const __m512 clamped = _mm512_min_ps(ratio, _mm512_set1_ps(static_cast<float>(kLimit)));
  const __mmask16 some = inverse != 0.0f ? 0xFFFF : 0;
  const __m512i quants = _mm512_maskz_cvtps_epi32(some, clamped);
  const auto store = [](int8_t* out, __m512i bytes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(bytes));
  };
  if constexpr (kType == DType::kQ8Act) {
    store(high_out, quants);
    return _mm512_reduce_add_epi32(quants);
  }
  // SplitQ16.
  const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(quants, _mm512_set1_epi32(128)), 8);
  const __m512i high_part = _mm512_slli_epi32(high, 8);
  const __m512i low =
      _mm512_max_epi32(_mm512_sub_epi32(quants, high_part), _mm512_set1_epi32(-127));
  store(high_out, high);
  store(low_out, low);
  return _mm512_reduce_add_epi32(_mm512_add_epi32(high_part, low));
}

template <DType kType>
void QuantizeGroups(const float* x, int64_t stride, int rows, ActivationGroup* out) {
  constexpr int kLimit = kType == DType::kQ16Act ? kMaxQ16 : kMaxQ8;
  for (int r = 0; r < rows; ++r, ++out) {
    const __m512 first = _mm512_loadu_ps(x);
    const __m512 second = _mm512_loadu_ps(x + 16);
    // The order of operands keeps a NaN out of the maximum, as in the reference.
    __m512 largest = _mm512_max_ps(_mm512_abs_ps(first), _mm512_setzero_ps());
    largest = _mm512_max_ps(_mm512_abs_ps(second), largest);
    const ActivationScale scale = ScaleFor(_mm512_reduce_max_ps(largest), kLimit);
    out->scale = scale.scale;
    const int32_t sum0 = QuantizeHalf<kType>(first, scale.inverse, out->high, out->low);
    const int32_t sum1 = QuantizeHalf<kType>(second, scale.inverse, out->high + 16, out->low + 16);
    SetSums(sum0, sum1, out);
    x = reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + stride);
  }
}

#pragma GCC pop_options

}  // namespace

void QuantizeRowsAvx512(Device& device, absl::Span<const Quantization> matrices) {
  RunQuantize(device, QuantizeGroups<DType::kQ16Act>, QuantizeGroups<DType::kQ8Act>, matrices);
}

}  // namespace pregate
