// Activations to 16 bits, for AVX-512: the arithmetic of the reference, sixteen elements at a time.
// GCC 12 takes the deliberately undefined operands inside its AVX-512 intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstdint>

#include "kernels/quant/entries.h"
#include "kernels/quant/q16_act.h"

namespace pregate {
namespace {

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")

// Sixteen elements as quants, half to even; a NaN becomes the smallest.
inline __m512i Quants(__m512 x, __m512 inverse) {
  constexpr float kLimit = kMaxQ16;
  const __m512 ratio = _mm512_max_ps(_mm512_mul_ps(x, inverse), _mm512_set1_ps(-kLimit));
  return _mm512_cvtps_epi32(_mm512_min_ps(ratio, _mm512_set1_ps(kLimit)));
}

// Half of a group: SplitQ16 of each quant; returns the sum of the quants.
inline int32_t StoreHalf(__m512i quants, int8_t* high_out, int8_t* low_out) {
  const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(quants, _mm512_set1_epi32(128)), 8);
  const __m512i high_part = _mm512_slli_epi32(high, 8);
  const __m512i low =
      _mm512_max_epi32(_mm512_sub_epi32(quants, high_part), _mm512_set1_epi32(-127));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high_out), _mm512_cvtepi32_epi8(high));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low_out), _mm512_cvtepi32_epi8(low));
  return _mm512_reduce_add_epi32(_mm512_add_epi32(high_part, low));
}

void QuantizeGroups(const float* x, int64_t stride, int rows, ActivationGroup* out) {
  for (int r = 0; r < rows; ++r, ++out) {
    const __m512 first = _mm512_loadu_ps(x);
    const __m512 second = _mm512_loadu_ps(x + 16);
    // The order of operands keeps a NaN out of the maximum, as in the reference.
    __m512 largest = _mm512_max_ps(_mm512_abs_ps(first), _mm512_setzero_ps());
    largest = _mm512_max_ps(_mm512_abs_ps(second), largest);
    const Q16Scale scale = ScaleFor(_mm512_reduce_max_ps(largest));
    const __mmask16 some = scale.inverse != 0.0f ? 0xFFFF : 0;
    const __m512 inverse = _mm512_set1_ps(scale.inverse);
    out->scale = scale.scale;
    const int32_t sum0 =
        StoreHalf(_mm512_maskz_mov_epi32(some, Quants(first, inverse)), out->high, out->low);
    const int32_t sum1 = StoreHalf(_mm512_maskz_mov_epi32(some, Quants(second, inverse)),
                                   out->high + 16, out->low + 16);
    SetSums(sum0, sum1, out);
    x = reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + stride);
  }
}

#pragma GCC pop_options

}  // namespace

void QuantizeRowsAvx512(Device& device, ConstTensor x, Tensor out) {
  RunQuantize(device, QuantizeGroups, x, out);
}

}  // namespace pregate
