// Keys and values of a tile on their way from a cache to the tensor cores (attention_mma.h): halves
// in shared memory, keys [head_dim][kTile] and values [kTile][head_dim].
//
// What is not halves in the cache becomes halves in shared memory, each element by the thread that
// has copied it: so that costs no barrier. kF8E4M3 is exact as a half down to 2^-21 (its scales see
// to the upper end, kv_layout.h); kBF16 is down to 2^-17, and saturates at 65504 as kF16 does.
#ifndef PREGATE_KERNELS_CUDA_ATTENTION_STAGE_H_
#define PREGATE_KERNELS_CUDA_ATTENTION_STAGE_H_

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_sources.h"

namespace pregate::cuda {

// Two kBF16.
PREGATE_DEVICE uint32_t HalvesOfBFloat16(uint32_t word) {
  constexpr float kMost = 65504.0f;
  float x[2] = {__uint_as_float(word << 16), __uint_as_float(word & 0xFFFF0000u)};
  for (float& element : x) element = element > kMost ? kMost : element < -kMost ? -kMost : element;
  return PackHalves(x[0], x[1]);
}
// Two E4M3 as HalvesOfE4M3 takes them, times two scales.
PREGATE_DEVICE uint32_t ScaledHalvesOfE4M3(uint32_t word, uint32_t scales) {
  const uint32_t in_units = (scales & 0x7C007C00u) + 0x20002000u;  // times 2^8
  return FmaHalves(HalvesOfE4M3(word), in_units, 0x80008000u);
}
// Sixteen of them in a row, with scales of their own, in pairs.
PREGATE_DEVICE void ConvertE4M3(const uint4& bytes, const uint32_t (&scales)[8], char* to) {
  const uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
  uint32_t halves[8];
  PREGATE_UNROLL
  for (int p = 0; p < 8; ++p) {
    halves[p] = ScaledHalvesOfE4M3(PairOfE4M3(words[p / 2], p % 2 != 0), scales[p]);
  }
  reinterpret_cast<uint4*>(to)[0] = {halves[0], halves[1], halves[2], halves[3]};
  reinterpret_cast<uint4*>(to)[1] = {halves[4], halves[5], halves[6], halves[7]};
}

// Keys are on their way while values are used and the other way round. kType: of the cache.
template <DType kType>
class MmaStage {
 public:
  // Rows that lanes read together are in different banks: those of neighbouring elements of keys,
  // and those of values 16 positions apart.
  static constexpr int kKeyBytes = kTile * 2 + 16;
  PREGATE_HOST_DEVICE static size_t SharedBytes(int head_dim) {
    return BytesAt(head_dim) +
           (kType == DType::kF8E4M3 ? static_cast<size_t>(kTile * head_dim) : 0);
  }

  // `memory`: shared, SharedBytes of it, aligned to 16 bytes.
  PREGATE_DEVICE MmaStage(const AttentionArgs& args, const Lines& lines, char* memory)
      : args_(args), lines_(lines), memory_(memory) {}

  PREGATE_DEVICE const char* KeyAt(int i) const { return Key(i); }
  PREGATE_DEVICE const char* ValueAt(int t) const { return Value(t); }

  // --- Where positions lie: found a tile ahead. ---

  // Whether this thread finds a place: that of an eight's first position serves for all of it.
  PREGATE_DEVICE bool Finds(int start) const {
    return start < lines_.end && thread_ >= Lo(start) / 8 * 8 && thread_ < Hi(start);
  }
  PREGATE_DEVICE Place FindPlace(int start) const {
    return FindInCache(args_, lines_, start + thread_);
  }
  // For the tile after the one that is used.
  PREGATE_DEVICE void KeepPlace(const Place& place) const { places(1 - slot_)[thread_] = place; }
  // That tile is the one from now on.
  PREGATE_DEVICE void Turn() { slot_ = 1 - slot_; }

  // --- Copies. ---

  PREGATE_DEVICE void IssueKeys(int start) {
    const int lo = Lo(start), hi = Hi(start), tokens = args_.kv.block_tokens;
    const Place* const of = places(slot_);
    const char* const keys = static_cast<const char*>(args_.kv.keys);
    if (CopiesRuns()) {
      // A run of which the first positions do not count has a place where the others begin.
      const int t = thread_ % (kTile / kRun) * kRun, first = lo / 8 * 8;
      Place place = of[t < first && first < t + kRun ? first : t];
      if (t < first && first < t + kRun) place.offset -= first - t;
      const char* const from = keys + place.base + place.offset * kElementBytes;
      VisitKeyRuns(start, [&](int, int i) {
        char* const to = kType == DType::kF8E4M3 ? Bytes() + i * kTile : Key(i);
        CopyAsync16(to + t * kElementBytes, from + KeyIndex(i, tokens) * kElementBytes);
      });
      if (kType == DType::kF8E4M3 && t + kRun > lo && t < hi) {
        const auto* const scales = reinterpret_cast<const uint4*>(ScalesOf(keys, place));
        key_scales_[0] = __ldg(scales);
        key_scales_[1] = __ldg(scales + 1);
      }
    } else {
      const int t = thread_ % kTile;
      if (t >= lo && t < hi) {
        const char* const from = keys + of[t].base;
        const uint32_t scale = kType == DType::kF8E4M3 ? *ScalesOf(keys, of[t]) : 0;
        for (int i = thread_ / kTile; i < args_.head_dim; i += kAttentionThreads / kTile) {
          const int64_t at = KeyIndex(i, tokens) + of[t].offset;
          uint32_t half;
          if constexpr (kType == DType::kF8E4M3) {
            half = ScaledHalvesOfE4M3(static_cast<uint32_t>(static_cast<uint8_t>(from[at])) << 8,
                                      scale);
          } else {
            half = reinterpret_cast<const uint16_t*>(from)[at];
            if constexpr (kType == DType::kBF16) half = HalvesOfBFloat16(half);
          }
          reinterpret_cast<uint16_t*>(Key(i))[t] = static_cast<uint16_t>(half);
        }
      }
    }
    CommitCopies();
  }

  // Those that do not count become zeros: a weight of zero must find no NaN.
  PREGATE_DEVICE void IssueValues(int start) {
    const int lo = Lo(start), hi = Hi(start);
    const Place* const of = places(slot_);
    const char* const values = static_cast<const char*>(args_.kv.values);
    VisitValueRuns([&](int n, int t, int i) {
      const bool counts = t >= lo && t < hi;
      const char* const from =
          counts ? values + of[t].base + of[t].offset * args_.row_bytes : values;
      char* const to = kType == DType::kF8E4M3 ? Bytes() + t * args_.head_dim : Value(t);
      CopyAsync16(to + i * 16, counts ? from + i * 16 : from, counts ? 16 : 0);
      if constexpr (kType == DType::kF8E4M3) {
        value_scales_[n] = counts ? *ScalesOf(values, of[t]) : 0;
      }
    });
    CommitCopies();
  }

  // What this thread has copied, which has arrived, becomes halves.
  PREGATE_DEVICE void ConvertKeys(int start) const {
    if (kType == DType::kF16 || !CopiesRuns()) return;
    if constexpr (kType == DType::kBF16) {
      VisitKeyRuns(start, [&](int t, int i) { ConvertBFloat16(Key(i) + t * 2); });
    } else {
      const uint4 &a = key_scales_[0], &b = key_scales_[1];
      const uint32_t scales[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
      VisitKeyRuns(start, [&](int t, int i) {
        ConvertE4M3(*reinterpret_cast<const uint4*>(Bytes() + i * kTile + t), scales,
                    Key(i) + t * 2);
      });
    }
  }
  PREGATE_DEVICE void ConvertValues() const {
    if constexpr (kType == DType::kBF16) {
      VisitValueRuns([&](int, int t, int i) { ConvertBFloat16(Value(t) + i * 16); });
    } else if constexpr (kType == DType::kF8E4M3) {
      VisitValueRuns([&](int n, int t, int i) {
        const uint32_t pair = value_scales_[n] | value_scales_[n] << 16;
        const uint32_t scales[8] = {pair, pair, pair, pair, pair, pair, pair, pair};
        ConvertE4M3(*reinterpret_cast<const uint4*>(Bytes() + t * args_.head_dim + i * 16), scales,
                    Value(t) + i * 32);
      });
    }
  }

 private:
  static constexpr int kValueSkip = 32;
  static constexpr size_t kPlacesBytes = 2 * kTile * sizeof(Place);
  PREGATE_HOST_DEVICE static size_t BytesAt(int head_dim) {
    return kPlacesBytes +
           static_cast<size_t>(head_dim * kKeyBytes + kTile * head_dim * 2 + 4 * kValueSkip);
  }
  PREGATE_DEVICE Place* places(int slot) const {
    return reinterpret_cast<Place*>(memory_) + slot * kTile;
  }
  PREGATE_DEVICE char* Key(int i) const { return memory_ + kPlacesBytes + i * kKeyBytes; }
  PREGATE_DEVICE char* Value(int t) const {
    return Key(args_.head_dim) + t * args_.head_dim * 2 + t / 16 * kValueSkip;
  }
  // Behind them E4M3 on their way, keys [head_dim][kTile] or values [kTile][head_dim].
  PREGATE_DEVICE char* Bytes() const { return memory_ + BytesAt(args_.head_dim); }

  // Positions [lo, hi) of the tile count.
  PREGATE_DEVICE int Lo(int start) const { return lines_.begin > start ? lines_.begin - start : 0; }
  PREGATE_DEVICE int Hi(int start) const {
    return lines_.end - start < kTile ? lines_.end - start : kTile;
  }

  // Runs of positions that lie in one block, aligned, are copied at once.
  static constexpr int kRun = kType == DType::kF8E4M3 ? 16 : 8;
  static constexpr int kElementBytes = 16 / kRun;
  PREGATE_DEVICE bool CopiesRuns() const { return args_.kv.block_tokens % kRun == 0; }

  // Calls f(t, i) for the runs of keys of this thread: positions from t on, element i.
  template <typename F>
  PREGATE_DEVICE void VisitKeyRuns(int start, F f) const {
    constexpr int kRuns = kTile / kRun;
    const int t = thread_ % kRuns * kRun;
    if (t + kRun <= Lo(start) || t >= Hi(start)) return;
    for (int i = thread_ / kRuns; i < args_.head_dim; i += kAttentionThreads / kRuns) f(t, i);
  }
  // Calls f(n, t, i) for the runs of values: 16 bytes of position t, number i; t is the thread's
  // n-th.
  template <typename F>
  PREGATE_DEVICE void VisitValueRuns(F f) const {
    constexpr int kAcross = kType == DType::kF8E4M3 ? 4 : 8;
    PREGATE_UNROLL
    for (int n = 0; n < kTile * kAcross / kAttentionThreads; ++n) {
      const int t = thread_ / kAcross + n * (kAttentionThreads / kAcross);
      for (int i = thread_ % kAcross; i < args_.head_dim / kRun; i += kAcross) f(n, t, i);
    }
  }

  PREGATE_DEVICE const uint16_t* ScalesOf(const char* base, const Place& place) const {
    const int64_t elements = int64_t{args_.head_dim} * args_.kv.block_tokens;
    return reinterpret_cast<const uint16_t*>(base + place.base + elements) + place.offset;
  }

  static PREGATE_DEVICE void ConvertBFloat16(char* eight) {
    auto* const words = reinterpret_cast<uint4*>(eight);
    *words = {HalvesOfBFloat16(words->x), HalvesOfBFloat16(words->y), HalvesOfBFloat16(words->z),
              HalvesOfBFloat16(words->w)};
  }

  const AttentionArgs& args_;
  const Lines& lines_;
  char* const memory_;
  const int thread_ = static_cast<int>(threadIdx.x);
  int slot_ = 0;  // which half of the places the next copies take
  // Of kF8E4M3, of what this thread copies: the scales of a run of keys, and of each value.
  uint4 key_scales_[2] = {};
  uint32_t value_scales_[2] = {};
};

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_ATTENTION_STAGE_H_
