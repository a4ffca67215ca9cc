// Eight floats in an AVX2 register: the vocabulary of the shared kernel bodies (*.inc).
// Included by kernels/cpu/avx2.cc alone, inside its namespace and target region.
// vec_avx512.h spells the same words for sixteen floats; results that pass through memory are the
// same for a partial vector as for a full one, so a lane's value never depends on its neighbours.
#ifndef PREGATE_KERNELS_CPU_VEC_AVX2_H_
#define PREGATE_KERNELS_CPU_VEC_AVX2_H_

using Vec = __m256;  // the compiler's + - * / work on it
constexpr int kLanes = 8;
// A register tile of kTileRows x kTileVecs accumulators leaves room for the operands.
constexpr int kTileVecs = 2;

inline Vec Zero() { return _mm256_setzero_ps(); }
inline Vec Set1(float x) { return _mm256_set1_ps(x); }
inline Vec Load(const float* p) { return _mm256_loadu_ps(p); }
inline void Store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
inline Vec Fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }    // a * b + c
inline Vec Fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
inline Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }                // b if either is NaN
inline Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }                // b if either is NaN
inline Vec Abs(Vec x) { return _mm256_andnot_ps(Set1(-0.0f), x); }
inline Vec Round(Vec x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec ZeroWhereLess(Vec value, Vec x, Vec bound) {
  return _mm256_andnot_ps(_mm256_cmp_ps(x, bound, _CMP_LT_OQ), value);
}
// Lane i where bit i is set, 0 where not.
inline Vec KeepLanes(Vec x, uint32_t bits) {
  const __m256i lane_bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane_bits);
  return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lane_bits)));
}
// 2^n for integral n in [-126, 127].
inline Vec Pow2(Vec n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}

inline __m256i FirstLanes(int64_t n) {
  alignas(32) static const int32_t kMasks[16] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                                 0,  0,  0,  0,  0,  0,  0,  0};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMasks + 8 - n));
}
// The first n <= kLanes elements; zeros after them. Memory behind them is not touched.
inline Vec LoadPartial(const float* p, int64_t n) { return _mm256_maskload_ps(p, FirstLanes(n)); }
inline void StorePartial(float* p, Vec x, int64_t n) { _mm256_maskstore_ps(p, FirstLanes(n), x); }

inline float FirstLane(Vec x) { return _mm256_cvtss_f32(x); }
inline float ReduceAdd(Vec x) {
  __m128 v = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
inline float ReduceMax(Vec x) {
  __m128 v = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  v = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)));
}

// Half-precision and int8 elements.
inline Vec LoadHalf(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec LoadHalfPartial(const uint16_t* p, int64_t n) {
  alignas(16) uint16_t copy[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return LoadHalf(copy);
}
inline void StoreWordsPartial(uint16_t* p, __m128i words, int64_t n) {
  if (n == kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words);
    return;
  }
  alignas(16) uint16_t copy[kLanes];
  _mm_store_si128(reinterpret_cast<__m128i*>(copy), words);
  for (int64_t i = 0; i < n; ++i) p[i] = copy[i];
}
inline void StoreHalfPartial(uint16_t* p, Vec x, int64_t n) {
  StoreWordsPartial(p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT), n);
}
inline Vec LoadInt8(const int8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
// x holds integers in [-128, 127].
inline void StoreInt8(int8_t* p, Vec x) {
  const __m256i words = _mm256_cvtps_epi32(x);
  const __m128i halves =
      _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(halves, halves));
}
inline Vec LoadBFloat16(const uint16_t* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline Vec LoadBFloat16Partial(const uint16_t* p, int64_t n) {
  alignas(16) uint16_t copy[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return LoadBFloat16(copy);
}
// Words below 2^16 as 16 bits each.
inline __m128i NarrowWords(__m256i words) {
  return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
// Rounds to nearest even; a NaN stays one.
inline void StoreBFloat16Partial(uint16_t* p, Vec x, int64_t n) {
  const Vec number =
      _mm256_blendv_ps(x, Set1(__builtin_nanf("")), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i bits = _mm256_castps_si256(number);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
  StoreWordsPartial(p, NarrowWords(_mm256_srli_epi32(_mm256_add_epi32(bits, half), 16)), n);
}
// E4M3 in units of kE4M3Unit: its bits in the places of a half's, whose exponents are 8 higher.
constexpr float kE4M3Unit = 256.0f;
inline Vec LoadE4M3(const uint8_t* p) {
  const __m128i words = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_cvtph_ps(
      _mm_and_si128(_mm_slli_epi16(words, 7), _mm_set1_epi16(static_cast<int16_t>(0xBF80))));
}
// FloatToE4M3 of numbers in [-448, 448].
inline void StoreE4M3(uint8_t* p, Vec x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 20), _mm256_set1_epi32(1));
  // Less the difference of the exponents' biases, plus nearly half of a last bit.
  const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFFF - (120 << 23)));
  const __m256i normal = _mm256_srli_epi32(_mm256_add_epi32(magnitude, half), 20);
  const Vec steps = _mm256_castsi256_ps(magnitude) + Set1(0x1p14f);  // of 2^-9
  const __m256i small =
      _mm256_sub_epi32(_mm256_castps_si256(steps), _mm256_castps_si256(Set1(0x1p14f)));
  const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(121 << 23), magnitude);  // 2^-6
  const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
  const __m256i all = _mm256_or_si256(_mm256_blendv_epi8(normal, small, is_small), sign);
  const __m128i halves = NarrowWords(all);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
}

// Elements 2i and 2i + 1 of p[0, 2 * kLanes).
inline void LoadPairs(const float* p, Vec* even, Vec* odd) {
  const Vec a = Load(p), b = Load(p + kLanes);
  const Vec low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
  *even = _mm256_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0));
  *odd = _mm256_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1));
}
// Complex product of (x[2i], x[2i + 1]) with (y[2i], y[2i + 1]).
inline Vec MultiplyPairs(Vec x, Vec y) {
  const Vec swapped = _mm256_permute_ps(x, _MM_SHUFFLE(2, 3, 0, 1));
  return _mm256_fmaddsub_ps(x, _mm256_moveldup_ps(y), swapped * _mm256_movehdup_ps(y));
}

// rows[i][j] <-> rows[j][i], by exchanging 1, 2 and then 4 columns.
inline void Transpose(Vec* rows) {
  Vec pairs[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  Vec quads[8];
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], _MM_SHUFFLE(1, 0, 1, 0));
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], _MM_SHUFFLE(3, 2, 3, 2));
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], _MM_SHUFFLE(1, 0, 1, 0));
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], _MM_SHUFFLE(3, 2, 3, 2));
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

#endif  // PREGATE_KERNELS_CPU_VEC_AVX2_H_
