// Where the keys and values of a tile come from: a cache, of each type of element, or matrices. A
// Source brings them to shared memory as floats:
//   Find(args, lines, position)   where a position lies
//   StageKeys(args, lines, start, lo, hi, first, n, stage)
//       stage[i][t] = element first + i of the key of position start + t, for i < n and t in
//       [lo, hi) at least
//   StageValues<kDims>(args, lines, places, from, lo, hi, stage)
//       stage[t - from][i] = element i of the value of the tile's position t in [lo, hi)
#ifndef PREGATE_KERNELS_CUDA_ATTENTION_SOURCES_H_
#define PREGATE_KERNELS_CUDA_ATTENTION_SOURCES_H_

#include "kernels/cuda/attention.h"
#include "kernels/kv_layout.h"

namespace pregate::cuda {

// A block of the cache, or a row of a matrix, in bytes from the first; then, inside the block, the
// position.
struct alignas(16) Place {
  int64_t base;
  int offset;
};

inline constexpr int kStagedElements = 64;
// A multiple of four floats, and not of the banks.
inline constexpr int kStagedKeyStride = kTile + 4;
inline constexpr int kStageFloats = kStagedElements * kStagedKeyStride;

// Of the part that belongs to the lines' head.
PREGATE_DEVICE Place FindInCache(const AttentionArgs& args, const Lines& lines, int position) {
  const int block = position / args.kv.block_tokens;
  return {lines.blocks[block] * args.kv.block_stride + lines.kv_head * args.part_bytes,
          position - block * args.kv.block_tokens};
}

// How elements are read, eight at a time or one. Keys: element i of positions from `offset` on.
struct FloatsInCache {
  template <int kCount>
  static PREGATE_DEVICE void Keys(const AttentionArgs& args, const char* part, int i, int offset,
                                  float (&x)[kCount]) {
    Read(reinterpret_cast<const float*>(part) + KeyIndex(i, args.kv.block_tokens) + offset, x);
  }
  static PREGATE_DEVICE void Values(const AttentionArgs& args, const char* part, int offset, int i,
                                    float (&x)[8]) {
    Read(reinterpret_cast<const float*>(part + offset * args.row_bytes) + i, x);
  }

 private:
  static PREGATE_DEVICE void Read(const float* from, float (&x)[8]) {
    const float4 a = __ldg(reinterpret_cast<const float4*>(from));
    const float4 b = __ldg(reinterpret_cast<const float4*>(from) + 1);
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
    x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
  }
  static PREGATE_DEVICE void Read(const float* from, float (&x)[1]) { x[0] = *from; }
};

// Sixteen bits to a float.
struct Half {
  static PREGATE_DEVICE float ToFloat(uint16_t bits) { return FromHalf(bits); }
};
struct BFloat16 {
  static PREGATE_DEVICE float ToFloat(uint16_t bits) {
    return __uint_as_float(static_cast<uint32_t>(bits) << 16);
  }
};

template <class Format>
PREGATE_DEVICE void Unpack(const uint16_t* from, float (&x)[8]) {
  const uint4 words = __ldg(reinterpret_cast<const uint4*>(from));
  const uint32_t w[4] = {words.x, words.y, words.z, words.w};
  for (int j = 0; j < 8; ++j) {
    x[j] = Format::ToFloat(static_cast<uint16_t>(w[j / 2] >> (j % 2 * 16)));
  }
}
template <class Format>
PREGATE_DEVICE void Unpack(const uint16_t* from, float (&x)[1]) {
  x[0] = Format::ToFloat(*from);
}

template <class Format>
struct SixteensInCache {
  template <int kCount>
  static PREGATE_DEVICE void Keys(const AttentionArgs& args, const char* part, int i, int offset,
                                  float (&x)[kCount]) {
    Unpack<Format>(
        reinterpret_cast<const uint16_t*>(part) + KeyIndex(i, args.kv.block_tokens) + offset, x);
  }
  static PREGATE_DEVICE void Values(const AttentionArgs& args, const char* part, int offset, int i,
                                    float (&x)[8]) {
    Unpack<Format>(reinterpret_cast<const uint16_t*>(part + offset * args.row_bytes) + i, x);
  }
};

struct BytesInCache {  // Q8_0
  template <int kCount>
  static PREGATE_DEVICE void Keys(const AttentionArgs& args, const char* part, int i, int offset,
                                  float (&x)[kCount]) {
    const int64_t tokens = args.kv.block_tokens;
    const auto* const scales = reinterpret_cast<const uint16_t*>(part + args.head_dim * tokens);
    Unpack<Half>(scales + KeyScaleIndex(i, tokens) + offset, x);
    Scale(reinterpret_cast<const int8_t*>(part) + KeyIndex(i, tokens) + offset, x);
  }
  // A row is aligned to two bytes only.
  static PREGATE_DEVICE void Values(const AttentionArgs& args, const char* part, int offset, int i,
                                    float (&x)[8]) {
    const auto* const block = reinterpret_cast<const uint16_t*>(
        part + offset * args.row_bytes + i / 32 * static_cast<int>(sizeof(Q8Block)));
    const float scale = FromHalf(block[0]);
    for (int j = 0; j < 8; j += 2) {
      const uint32_t pair = block[1 + (i % 32 + j) / 2];
      x[j] = static_cast<float>(static_cast<int8_t>(pair & 0xFF)) * scale;
      x[j + 1] = static_cast<float>(static_cast<int8_t>(pair >> 8)) * scale;
    }
  }

 private:
  static PREGATE_DEVICE void Scale(const int8_t* quants, float (&x)[8]) {
    const uint2 words = __ldg(reinterpret_cast<const uint2*>(quants));
    for (int j = 0; j < 8; ++j) {
      const uint32_t byte = (j < 4 ? words.x : words.y) >> (j % 4 * 8) & 0xFF;
      x[j] *= static_cast<float>(static_cast<int8_t>(byte));
    }
  }
  static PREGATE_DEVICE void Scale(const int8_t* quants, float (&x)[1]) {
    x[0] *= static_cast<float>(*quants);
  }
};

struct E4M3InCache {
  template <int kCount>
  static PREGATE_DEVICE void Keys(const AttentionArgs& args, const char* part, int i, int offset,
                                  float (&x)[kCount]) {
    Unpack<Half>(Scales(args, part) + offset, x);
    const char* const elements = part + KeyIndex(i, args.kv.block_tokens) + offset;
    if constexpr (kCount == 1) {
      Multiply(static_cast<uint8_t>(*elements), 0, &x[0]);
    } else {
      MultiplyEight(elements, x);
    }
  }
  static PREGATE_DEVICE void Values(const AttentionArgs& args, const char* part, int offset, int i,
                                    float (&x)[8]) {
    const float scale = FromHalf(Scales(args, part)[offset]);
    for (float& element : x) element = scale;
    MultiplyEight(part + offset * args.row_bytes + i, x);
  }

 private:
  static PREGATE_DEVICE const uint16_t* Scales(const AttentionArgs& args, const char* part) {
    return reinterpret_cast<const uint16_t*>(part + int64_t{args.head_dim} * args.kv.block_tokens);
  }
  // By byte i of a word.
  static PREGATE_DEVICE void Multiply(uint32_t word, int i, float* x) {
    const uint32_t half = HalvesOfE4M3((word >> (8 * i) & 0xFF) << 8);
    *x *= FromHalf(static_cast<uint16_t>(half)) * kE4M3Unit;
  }
  static PREGATE_DEVICE void MultiplyEight(const char* from, float (&x)[8]) {
    const uint2 words = __ldg(reinterpret_cast<const uint2*>(from));
    for (int j = 0; j < 8; ++j) Multiply(j < 4 ? words.x : words.y, j % 4, &x[j]);
  }
};

template <class Elements>
struct CacheSource {
  static PREGATE_DEVICE Place Find(const AttentionArgs& args, const Lines& lines, int position) {
    return FindInCache(args, lines, position);
  }

  static PREGATE_DEVICE void StageKeys(const AttentionArgs& args, const Lines& lines, int start,
                                       int lo, int hi, int first, int n, float* stage) {
    // Eights of positions lie in one block, aligned.
    if (args.kv.block_tokens % 8 == 0) {
      StageRuns<8>(args, lines, start, lo, hi, first, n, stage);
    } else {
      StageRuns<1>(args, lines, start, lo, hi, first, n, stage);
    }
  }

  template <int kDims>
  static PREGATE_DEVICE void StageValues(const AttentionArgs& args, const Lines&,
                                         const Place* places, int from, int lo, int hi,
                                         float* stage) {
    constexpr int kEights = kDims / 8;
    const int i = static_cast<int>(threadIdx.x) % kEights * 8;
    if (i >= args.head_dim) return;
    const char* const values = static_cast<const char*>(args.kv.values);
    for (int t = lo + static_cast<int>(threadIdx.x) / kEights; t < hi;
         t += kAttentionThreads / kEights) {
      float x[8];
      Elements::Values(args, values + places[t].base, places[t].offset, i, x);
      auto* const to = reinterpret_cast<float4*>(stage + (t - from) * kDims + i);
      to[0] = {x[0], x[1], x[2], x[3]};
      to[1] = {x[4], x[5], x[6], x[7]};
    }
  }

 private:
  // kCount positions at a time; a thread has the same of each element.
  template <int kCount>
  static PREGATE_DEVICE void StageRuns(const AttentionArgs& args, const Lines& lines, int start,
                                       int lo, int hi, int first, int n, float* stage) {
    constexpr int kRuns = kTile / kCount;
    const int t = static_cast<int>(threadIdx.x) % kRuns * kCount;
    if (t + kCount <= lo || t >= hi) return;
    const Place place = FindInCache(args, lines, start + t);
    const char* const part = static_cast<const char*>(args.kv.keys) + place.base;
    for (int i = static_cast<int>(threadIdx.x) / kRuns; i < n; i += kAttentionThreads / kRuns) {
      float x[kCount];
      Elements::Keys(args, part, first + i, place.offset, x);
      float* const to = stage + i * kStagedKeyStride + t;
      if constexpr (kCount == 1) {
        to[0] = x[0];
      } else {
        reinterpret_cast<float4*>(to)[0] = {x[0], x[1], x[2], x[3]};
        reinterpret_cast<float4*>(to)[1] = {x[4], x[5], x[6], x[7]};
      }
    }
  }
};

// Matrices args.k and args.v, whose rows are positions.
struct MatrixSource {
  static PREGATE_DEVICE Place Find(const AttentionArgs& args, const Lines& lines, int position) {
    return {(lines.first_row + position) * args.v.stride, 0};
  }

  // A warp turns eight elements of four positions at a time.
  static PREGATE_DEVICE void StageKeys(const AttentionArgs& args, const Lines& lines, int start,
                                       int lo, int hi, int first, int n, float* stage) {
    const int thread = static_cast<int>(threadIdx.x);
    for (int t = thread / 8; t < hi; t += kAttentionThreads / 8) {
      if (t < lo) continue;
      const float* const key =
          args.k.Row<float>(lines.first_row + start + t) + lines.kv_head * args.head_dim + first;
      for (int i = thread % 8; i < n; i += 8) stage[i * kStagedKeyStride + t] = key[i];
    }
  }

  template <int kDims>
  static PREGATE_DEVICE void StageValues(const AttentionArgs& args, const Lines& lines,
                                         const Place* places, int from, int lo, int hi,
                                         float* stage) {
    constexpr int kAcross = kDims < kAttentionThreads ? kDims : kAttentionThreads;
    const int thread = static_cast<int>(threadIdx.x);
    const char* const values =
        static_cast<const char*>(args.v.data) + lines.kv_head * args.head_dim * sizeof(float);
    for (int t = lo + thread / kAcross; t < hi; t += kAttentionThreads / kAcross) {
      const auto* const value = reinterpret_cast<const float*>(values + places[t].base);
      for (int i = thread % kAcross; i < args.head_dim; i += kAcross) {
        stage[(t - from) * kDims + i] = value[i];
      }
    }
  }
};

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_ATTENTION_SOURCES_H_
