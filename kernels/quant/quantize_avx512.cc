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

// Half of a group: its quants, half to even (a NaN becomes the smallest).
inline __m512i QuantsOf(__m512 x, float inverse, int limit) {
  const auto most = static_cast<float>(limit);
  const __m512 ratio =
      _mm512_max_ps(_mm512_mul_ps(x, _mm512_set1_ps(inverse)), _mm512_set1_ps(-most));
  const __mmask16 some = inverse != 0.0f ? 0xFFFF : 0;
  return _mm512_maskz_cvtps_epi32(some, _mm512_min_ps(ratio, _mm512_set1_ps(most)));
}

// A group's quants as words, in order: packing goes by lanes of 128 bits.
inline __m512i WordsOf(__m512i first, __m512i second) {
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7),
                                  _mm512_packs_epi32(first, second));
}

inline void StoreBytes(__m512i words, int8_t* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi16_epi8(words));
}

// Stores a group's quants as bytes; returns what they have become, as words.
template <DType kType>
inline __m512i StoreQuants(__m512i quants, ActivationGroup* out) {
  if constexpr (kType == DType::kQ8Act) {
    StoreBytes(quants, out->high);
    return quants;
  }
  // SplitQ16.
  const __m512i high = _mm512_srai_epi16(_mm512_add_epi16(quants, _mm512_set1_epi16(128)), 8);
  const __m512i high_part = _mm512_slli_epi16(high, 8);
  const __m512i low =
      _mm512_max_epi16(_mm512_sub_epi16(quants, high_part), _mm512_set1_epi16(-127));
  StoreBytes(high, out->high);
  StoreBytes(low, out->low);
  return _mm512_add_epi16(high_part, low);
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
    const __m512i quants =
        WordsOf(QuantsOf(first, scale.inverse, kLimit), QuantsOf(second, scale.inverse, kLimit));
    // Sums of each quarter, then of each half.
    __m512i sums = _mm512_madd_epi16(StoreQuants<kType>(quants, out), _mm512_set1_epi16(1));
    sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_BADC));
    sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
    sums = _mm512_add_epi32(sums, _mm512_shuffle_i64x2(sums, sums, _MM_SHUFFLE(2, 3, 0, 1)));
    SetSums(_mm512_cvtsi512_si32(sums), _mm_cvtsi128_si32(_mm512_extracti32x4_epi32(sums, 2)), out);
    x = reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + stride);
  }
}

#pragma GCC pop_options

}  // namespace

void QuantizeRowsAvx512(Device& device, absl::Span<const Quantization> matrices) {
  RunQuantize(device, QuantizeGroups<DType::kQ16Act>, QuantizeGroups<DType::kQ8Act>, matrices);
}

}  // namespace pregate
