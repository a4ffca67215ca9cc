// Activations to 8 bits, for AVX2: the arithmetic of the reference, eight elements at a time.
#include <immintrin.h>

#include <cassert>
#include <cstdint>

#include "kernels/quant/entries.h"
#include "kernels/quant/q8_act.h"

namespace pregate {
namespace {

// Rows that a thread takes at a time.
constexpr int64_t kGrain = 4;

#pragma GCC push_options
#pragma GCC target("avx2")

inline float LargestLane(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  m = _mm_max_ss(m, _mm_movehdup_ps(m));
  return _mm_cvtss_f32(m);
}

// Eight elements divided by the scale, clamped (a NaN becomes -127) and rounded half to even.
inline __m256i Quants(__m256 x, __m256 scale) {
  const __m256 limit = _mm256_set1_ps(127.0f);
  const __m256 ratio = _mm256_max_ps(_mm256_div_ps(x, scale), _mm256_set1_ps(-127.0f));
  return _mm256_cvtps_epi32(_mm256_min_ps(ratio, limit));
}

inline int16_t SumBytes(__m128i q) {
  const __m128i biased = _mm_xor_si128(q, _mm_set1_epi8(-128));  // unsigned: q + 128
  const __m128i sums = _mm_sad_epu8(biased, _mm_setzero_si128());
  return static_cast<int16_t>(_mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4) - 16 * 128);
}

// 32 elements at x into 32 quants and two sums; returns the scale.
inline float QuantizeGroup(const float* x, int8_t* quants, int16_t* sums) {
  const __m256 absolute = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  __m256 part[4];
  __m256 largest = _mm256_setzero_ps();
  for (int i = 0; i < 4; ++i) {
    part[i] = _mm256_loadu_ps(x + 8 * i);
    largest = _mm256_max_ps(_mm256_and_ps(part[i], absolute), largest);
  }
  const float scale = LargestLane(largest) / 127.0f;
  __m256i packed = _mm256_setzero_si256();
  if (scale != 0.0f) {
    const __m256 divisor = _mm256_set1_ps(scale);
    const __m256i low = _mm256_packs_epi32(Quants(part[0], divisor), Quants(part[1], divisor));
    const __m256i high = _mm256_packs_epi32(Quants(part[2], divisor), Quants(part[3], divisor));
    // Packing works within 128-bit halves and leaves groups of four in the order 0 2 4 6 1 3 5 7.
    packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                         _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(quants), packed);
  sums[0] = SumBytes(_mm256_castsi256_si128(packed));
  sums[1] = SumBytes(_mm256_extracti128_si256(packed, 1));
  return scale;
}

void QuantizeRow(const float* x, int64_t groups, int8_t* quants, float* scales, int16_t* sums) {
  for (int64_t g = 0; g < groups; ++g) {
    scales[g] = QuantizeGroup(x + g * 32, quants + g * 32, sums + g * 2);
  }
}

#pragma GCC pop_options

}  // namespace

void QuantizeRowsAvx2(Device& device, ConstTensor x, Tensor out) {
  assert(x.dtype == DType::kF32 && out.dtype == DType::kQ8Act && x.cols % 32 == 0);
  assert(out.rows == x.rows && out.cols == x.cols);
  device.ParallelFor(x.rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const Q8ActRow<char> row(out.Row<char>(r), x.cols);
      QuantizeRow(x.Row<float>(r), x.cols / 32, row.quants(), row.scales(), row.sums());
    }
  });
}

}  // namespace pregate
