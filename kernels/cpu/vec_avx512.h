// Sixteen floats in an AVX-512 register: the words of vec_avx2.h, which says what each means.
// Included by kernels/cpu/avx512.cc alone, inside its namespace and target region.
#ifndef PREGATE_KERNELS_CPU_VEC_AVX512_H_
#define PREGATE_KERNELS_CPU_VEC_AVX512_H_

using Vec = __m512;
constexpr int kLanes = 16;
constexpr int kTileVecs = 4;

inline Vec Zero() { return _mm512_setzero_ps(); }
inline Vec Set1(float x) { return _mm512_set1_ps(x); }
inline Vec Load(const float* p) { return _mm512_loadu_ps(p); }
inline void Store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
inline Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec Fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }
inline Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec Abs(Vec x) { return _mm512_abs_ps(x); }
inline Vec Round(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec ZeroWhereLess(Vec value, Vec x, Vec bound) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), value);
}
inline Vec KeepLanes(Vec x, uint32_t bits) {
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(bits), x);
}
inline Vec Pow2(Vec n) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}

inline __mmask16 FirstLanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline Vec LoadPartial(const float* p, int64_t n) {
  return _mm512_maskz_loadu_ps(FirstLanes(n), p);
}
inline void StorePartial(float* p, Vec x, int64_t n) { _mm512_mask_storeu_ps(p, FirstLanes(n), x); }

inline float FirstLane(Vec x) { return _mm512_cvtss_f32(x); }
inline float ReduceAdd(Vec x) { return _mm512_reduce_add_ps(x); }
inline float ReduceMax(Vec x) { return _mm512_reduce_max_ps(x); }

inline Vec LoadHalf(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec LoadHalfPartial(const uint16_t* p, int64_t n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(FirstLanes(n), p));
}
inline void StoreHalfPartial(uint16_t* p, Vec x, int64_t n) {
  const __m256i halves = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
  if (n == kLanes) {  // a masked store is dear even when it masks nothing
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), halves);
    return;
  }
  _mm256_mask_storeu_epi16(p, FirstLanes(n), halves);
}
inline Vec LoadInt8(const int8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void StoreInt8(int8_t* p, Vec x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}
inline Vec LoadBFloat16(const uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline Vec LoadBFloat16Partial(const uint16_t* p, int64_t n) {
  const __m256i bits = _mm256_maskz_loadu_epi16(FirstLanes(n), p);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline void StoreBFloat16Partial(uint16_t* p, Vec x, int64_t n) {
  const Vec number =
      _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), Set1(__builtin_nanf("")));
  const __m512i bits = _mm512_castps_si512(number);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
  const __m256i halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(bits, half), 16));
  if (n == kLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), halves);
    return;
  }
  _mm256_mask_storeu_epi16(p, FirstLanes(n), halves);
}
constexpr float kE4M3Unit = 256.0f;
inline Vec LoadE4M3(const uint8_t* p) {
  const __m256i words = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_cvtph_ps(_mm256_and_si256(_mm256_slli_epi16(words, 7),
                                          _mm256_set1_epi16(static_cast<int16_t>(0xBF80))));
}
inline void StoreE4M3(uint8_t* p, Vec x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(magnitude, 20), _mm512_set1_epi32(1));
  const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFFF - (120 << 23)));
  const __m512i normal = _mm512_srli_epi32(_mm512_add_epi32(magnitude, half), 20);
  const Vec steps = _mm512_castsi512_ps(magnitude) + Set1(0x1p14f);
  const __m512i small =
      _mm512_sub_epi32(_mm512_castps_si512(steps), _mm512_castps_si512(Set1(0x1p14f)));
  const __mmask16 is_small = _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(121 << 23));
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(0x80));
  const __m512i all = _mm512_or_si512(_mm512_mask_mov_epi32(normal, is_small, small), sign);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(all));
}

inline void LoadPairs(const float* p, Vec* even, Vec* odd) {
  const Vec a = Load(p), b = Load(p + kLanes);
  const __m512i evens =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
  *even = _mm512_permutex2var_ps(a, evens, b);
  *odd = _mm512_permutex2var_ps(a, odds, b);
}
inline Vec MultiplyPairs(Vec x, Vec y) {
  const Vec swapped = _mm512_permute_ps(x, _MM_SHUFFLE(2, 3, 0, 1));
  return _mm512_fmaddsub_ps(x, _mm512_moveldup_ps(y), swapped * _mm512_movehdup_ps(y));
}

// By exchanging 1, 2, 4 and then 8 columns.
inline void Transpose(Vec* rows) {
  Vec pairs[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  Vec quads[16];
  for (int i = 0; i < 16; i += 4) {
    quads[i] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], _MM_SHUFFLE(1, 0, 1, 0));
    quads[i + 1] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], _MM_SHUFFLE(3, 2, 3, 2));
    quads[i + 2] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], _MM_SHUFFLE(1, 0, 1, 0));
    quads[i + 3] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], _MM_SHUFFLE(3, 2, 3, 2));
  }
  // quads[4g + j] holds columns j, j + 4, j + 8, j + 12 of rows 4g .. 4g + 3.
  for (int j = 0; j < 4; ++j) {
    const Vec a = _mm512_shuffle_f32x4(quads[j], quads[4 + j], 0x88);
    const Vec b = _mm512_shuffle_f32x4(quads[8 + j], quads[12 + j], 0x88);
    const Vec c = _mm512_shuffle_f32x4(quads[j], quads[4 + j], 0xDD);
    const Vec d = _mm512_shuffle_f32x4(quads[8 + j], quads[12 + j], 0xDD);
    rows[j] = _mm512_shuffle_f32x4(a, b, 0x88);
    rows[j + 8] = _mm512_shuffle_f32x4(a, b, 0xDD);
    rows[j + 4] = _mm512_shuffle_f32x4(c, d, 0x88);
    rows[j + 12] = _mm512_shuffle_f32x4(c, d, 0xDD);
  }
}

#endif  // PREGATE_KERNELS_CPU_VEC_AVX512_H_
