// Activations to integers, for AVX2: the arithmetic of the reference, eight elements at a time.
#include <immintrin.h>

#include <cstdint>

#include "kernels/quant/activations.h"
#include "kernels/quant/entries.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/wide.h"

namespace pregate {
namespace {

#pragma GCC push_options
#pragma GCC target("avx2")

inline float LargestLane(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  m = _mm_max_ss(m, _mm_movehdup_ps(m));
  return _mm_cvtss_f32(m);
}

// Eight elements times the scale's inverse, clamped (a NaN becomes the smallest) and rounded half
// to even.
inline __m256i Quants(__m256 x, float inverse, int limit) {
  const __m256 most = _mm256_set1_ps(static_cast<float>(limit));
  const __m256 least = _mm256_set1_ps(static_cast<float>(-limit));
  const __m256 ratio = _mm256_max_ps(_mm256_mul_ps(x, _mm256_set1_ps(inverse)), least);
  return _mm256_cvtps_epi32(_mm256_min_ps(ratio, most));
}

// SplitQ16 of eight quants.
inline __m256i HighBytes(__m256i quants) {
  return _mm256_srai_epi32(_mm256_add_epi32(quants, _mm256_set1_epi32(128)), 8);
}
inline __m256i LowBytes(__m256i quants, __m256i high) {
  const __m256i low = _mm256_sub_epi32(quants, _mm256_slli_epi32(high, 8));
  return _mm256_max_epi32(low, _mm256_set1_epi32(-127));
}

// 32 integers that fit a byte, eight in each part, as bytes.
inline __m256i PackBytes(const __m256i* part) {
  const __m256i first = _mm256_packs_epi32(part[0], part[1]);
  const __m256i second = _mm256_packs_epi32(part[2], part[3]);
  // Packing works within 128-bit halves and leaves groups of four in the order 0 2 4 6 1 3 5 7.
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

inline int32_t SumBytes(__m128i q) {
  const __m128i biased = _mm_xor_si128(q, _mm_set1_epi8(-128));  // unsigned: q + 128
  const __m128i sums = _mm_sad_epu8(biased, _mm_setzero_si128());
  return _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4) - 16 * 128;
}

template <DType kType>
inline void QuantizeGroup(const float* x, ActivationGroup* out) {
  constexpr int kLimit = kType == DType::kQ16Act ? kMaxQ16 : kMaxQ8;
  const __m256 absolute = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  __m256 part[4];
  __m256 largest = _mm256_setzero_ps();
  for (int i = 0; i < 4; ++i) {
    part[i] = _mm256_loadu_ps(x + 8 * i);
    largest = _mm256_max_ps(_mm256_and_ps(part[i], absolute), largest);
  }
  const ActivationScale scale = ScaleFor(LargestLane(largest), kLimit);
  __m256i high[4];
  __m256i low[4];
  for (int i = 0; i < 4; ++i) {
    high[i] = low[i] = _mm256_setzero_si256();
    if (scale.inverse == 0.0f) continue;
    high[i] = Quants(part[i], scale.inverse, kLimit);
    if constexpr (kType == DType::kQ16Act) {
      const __m256i quants = high[i];
      high[i] = HighBytes(quants);
      low[i] = LowBytes(quants, high[i]);
    }
  }
  out->scale = scale.scale;
  const __m256i bytes = PackBytes(high);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->high), bytes);
  int32_t first = SumBytes(_mm256_castsi256_si128(bytes));
  int32_t second = SumBytes(_mm256_extracti128_si256(bytes, 1));
  if constexpr (kType == DType::kQ16Act) {
    const __m256i low_bytes = PackBytes(low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->low), low_bytes);
    first = 256 * first + SumBytes(_mm256_castsi256_si128(low_bytes));
    second = 256 * second + SumBytes(_mm256_extracti128_si256(low_bytes, 1));
  }
  SetSums(first, second, out);
}

template <DType kType>
void QuantizeGroups(const float* x, int64_t stride, int rows, ActivationGroup* out) {
  for (int r = 0; r < rows; ++r) {
    QuantizeGroup<kType>(x, out + r);
    x = reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + stride);
  }
}

// 128 elements of a row, as pairs of words `kWideRows` apart.
inline void QuantizeWideGroup(const float* x, int row, WideRowGroup* out) {
  const __m256 absolute = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  __m256 largest[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int i = 0; i < kWideGroup; i += 16) {
    for (int c = 0; c < 2; ++c) {
      const __m256 part = _mm256_loadu_ps(x + i + 8 * c);
      largest[c] = _mm256_max_ps(_mm256_and_ps(part, absolute), largest[c]);
    }
  }
  const ActivationScale scale =
      ScaleFor(LargestLane(_mm256_max_ps(largest[0], largest[1])), kMaxQ13);
  out->scale[row] = scale.scale;
  for (int i = 0; i < kWideGroup; i += 16) {
    __m256i words = _mm256_setzero_si256();
    if (scale.inverse != 0.0f) {
      // Packing works within 128-bit halves: quadruples 0 and 2, then 1 and 3.
      words = _mm256_packs_epi32(Quants(_mm256_loadu_ps(x + i), scale.inverse, kMaxQ13),
                                 Quants(_mm256_loadu_ps(x + i + 8), scale.inverse, kMaxQ13));
      words = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
    }
    alignas(32) int32_t pairs[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(pairs), words);
    for (int p = 0; p < 8; ++p) out->pairs[i / 2 + p][row] = pairs[p];
  }
}

void QuantizeWide(const float* x, int64_t stride, int rows, int64_t groups, WideRowGroup* out) {
  for (int64_t g = 0; g < groups; ++g) {
    const char* row = reinterpret_cast<const char*>(x + g * kWideGroup);
    if (rows < kWideRows) out[g] = {};
    for (int r = 0; r < rows; ++r, row += stride) {
      QuantizeWideGroup(reinterpret_cast<const float*>(row), r, &out[g]);
    }
  }
}

#pragma GCC pop_options

}  // namespace

void QuantizeWideAvx2(const float* x, int64_t stride, int rows, int64_t groups, void* out) {
  QuantizeWide(x, stride, rows, groups, static_cast<WideRowGroup*>(out));
}

void QuantizeRowsAvx2(Device& device, absl::Span<const Quantization> matrices) {
  RunQuantize(device, QuantizeGroups<DType::kQ16Act>, QuantizeGroups<DType::kQ8Act>, matrices);
}

}  // namespace pregate
