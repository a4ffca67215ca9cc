// The engine for everything: plain float multiply-adds. A tile's keys and values come to shared
// memory as floats, some elements or positions at a time. A score is a chain over the head's
// elements in order, an element of the mix a chain over the tile's positions in order; which
// threads work on which lines changes no chain.
#ifndef PREGATE_KERNELS_CUDA_ATTENTION_SIMT_H_
#define PREGATE_KERNELS_CUDA_ATTENTION_SIMT_H_

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_sources.h"

namespace pregate::cuda {

// Source: attention_sources.h. kDims: 64, 128 or 256, head_dim at least.
template <class Source, int kDims>
class SimtEngine {
 public:
  static constexpr int kLines = 16;
  static constexpr int kBlocks = kDims == 64 ? 4 : 3;
  static size_t SharedBytes(int head_dim) {
    return kQueriesAt + static_cast<size_t>(head_dim) * kLines * sizeof(float);
  }

  PREGATE_DEVICE SimtEngine(const AttentionArgs& args, const Lines& lines)
      : args_(args), lines_(lines), quads_((lines.count + 3) / 4) {
    PREGATE_UNROLL
    for (int c = 0; c < 4; ++c) {
      seen_begin_[c] = lines.SeenBegin(4 * warp_ + c);
      seen_end_[c] = lines.SeenEnd(4 * warp_ + c);
    }
  }

  PREGATE_DEVICE LineSums* sums() const { return SharedArray<LineSums>(); }

  // queries[i][line].
  PREGATE_DEVICE void Begin() {
    auto* const queries = SharedArray<float>(kQueriesAt);
    const int line = 4 * warp_ + lane_ / 8;
    const float* const query = line < lines_.count ? lines_.Query(args_, line) : nullptr;
    for (int i = lane_ % 8; i < args_.head_dim; i += 8) {
      queries[i * kLines + line] = query != nullptr ? query[i] : 0.0f;
    }
  }

  PREGATE_DEVICE void RunSpan(int begin, int end) {
    PREGATE_UNROLL
    for (int c = 0; c < 4; ++c) {
      max_[c] = kEmptyMax;
      sum_[c] = 0;
    }
    PREGATE_UNROLL
    for (int d = 0; d < kThreadDims; ++d) {
      PREGATE_UNROLL
      for (int u = 0; u < kThreadQuads; ++u) {
        PREGATE_UNROLL
        for (int c = 0; c < 4; ++c) mix_[d][u][c] = 0;
      }
    }
    for (int start = begin / kTile * kTile; start < end; start += kTile) {
      RunTile(start, begin > start ? begin - start : 0, end - start < kTile ? end - start : kTile);
    }
  }

  PREGATE_DEVICE void PublishSums(LineSums* sums) const {
    if (lane_ > 0) return;
    PREGATE_UNROLL
    for (int c = 0; c < 4; ++c) sums[4 * warp_ + c].part = {max_[c], sum_[c]};
  }

  template <typename F>
  PREGATE_DEVICE void Visit(F f) const {
    PREGATE_UNROLL
    for (int d = 0; d < kThreadDims; ++d) {
      if (Dim(d) >= args_.head_dim) continue;
      PREGATE_UNROLL
      for (int u = 0; u < kThreadQuads; ++u) {
        PREGATE_UNROLL
        for (int c = 0; c < 4; ++c) {
          const int line = 4 * MixQuad(u) + c;
          if (line < lines_.count) f(line, Dim(d), mix_[d][u][c]);
        }
      }
    }
  }

 private:
  // Of the mix a thread has some elements of some quads, fours of lines.
  static constexpr int kAcross = kDims < kAttentionThreads ? kDims : kAttentionThreads;
  static constexpr int kThreadDims = kDims / kAcross;
  static constexpr int kQuadStep = kAttentionThreads / kAcross;
  static constexpr int kThreadQuads = kLines / 4 / kQuadStep;
  PREGATE_DEVICE int Dim(int d) const { return thread_ % kAcross + d * kAcross; }
  PREGATE_DEVICE int MixQuad(int u) const { return thread_ / kAcross + u * kQuadStep; }

  // Shared memory. Weights lie as [position][line], with room so that quads of consecutive
  // positions are in different banks.
  static constexpr int kWeightFours = kLines / 4 + 1;
  static constexpr size_t kDecayAt = kLines * sizeof(LineSums);
  static constexpr size_t kPlacesAt = kDecayAt + kLines * sizeof(float);
  static constexpr size_t kWeightsAt = kPlacesAt + kTile * sizeof(Place);
  static constexpr size_t kStageAt = kWeightsAt + size_t{kTile} * kWeightFours * sizeof(float4);
  static constexpr size_t kQueriesAt = kStageAt + kStageFloats * sizeof(float);
  static_assert(kQueriesAt % 16 == 0);
  static constexpr int kStagedValues = kTile * 64 / kDims;  // positions
  static_assert(kStagedValues * kDims <= kStageFloats);

  PREGATE_DEVICE float4* weights() const { return SharedArray<float4>(kWeightsAt); }
  PREGATE_DEVICE float* stage() const { return SharedArray<float>(kStageAt); }
  PREGATE_DEVICE Place* places() const { return SharedArray<Place>(kPlacesAt); }

  // Positions [start + lo, start + hi) count.
  PREGATE_DEVICE void RunTile(int start, int lo, int hi) {
    float scores[2][4] = {};
    __syncthreads();  // the tile before is done with
    if (thread_ >= lo && thread_ < hi) {
      places()[thread_] = Source::Find(args_, lines_, start + thread_);
    }
    for (int i = 0; i < args_.head_dim; i += kStagedElements) {
      const int n = args_.head_dim - i < kStagedElements ? args_.head_dim - i : kStagedElements;
      if (i > 0) __syncthreads();
      Source::StageKeys(args_, lines_, start, lo, hi, i, n, stage());
      __syncthreads();
      if (thread_ / kTile + 2 < quads_) {
        AddProducts<2>(i, n, scores);
      } else if (thread_ / kTile < quads_) {
        AddProducts<1>(i, n, scores);
      }
    }
    PREGATE_UNROLL
    for (int u = 0; u < 2; ++u) {
      const float* const s = scores[u];
      weights()[thread_ % kTile * kWeightFours + thread_ / kTile + 2 * u] = {s[0], s[1], s[2],
                                                                             s[3]};
    }
    __syncthreads();
    int from = lo / kStagedValues * kStagedValues;
    StageValues(from, lo, hi);
    if (warp_ < quads_) Weigh(start);
    __syncthreads();
    Decay();
    for (;;) {
      MixStaged(from, lo, hi);
      from += kStagedValues;
      if (from >= hi) break;
      __syncthreads();
      StageValues(from, lo, hi);
      __syncthreads();
    }
  }

  // Of a position and kQuads quads: products with elements [first, first + n).
  template <int kQuads>
  PREGATE_DEVICE void AddProducts(int first, int n, float (&scores)[2][4]) const {
    const float* const keys = stage() + thread_ % kTile;
    const float4* const queries =
        SharedArray<float4>(kQueriesAt) + first * (kLines / 4) + thread_ / kTile;
    for (int i = 0; i < n; ++i) {
      const float key = keys[i * kStagedKeyStride];
      PREGATE_UNROLL
      for (int u = 0; u < kQuads; ++u) {
        const float4 query = queries[i * (kLines / 4) + 2 * u];
        scores[u][0] = __fmaf_rn(query.x, key, scores[u][0]);
        scores[u][1] = __fmaf_rn(query.y, key, scores[u][1]);
        scores[u][2] = __fmaf_rn(query.z, key, scores[u][2]);
        scores[u][3] = __fmaf_rn(query.w, key, scores[u][3]);
      }
    }
  }

  // Products become weights, by a warp for its quad; a lane has two positions.
  PREGATE_DEVICE void Weigh(int start) {
    float4* const at = weights() + lane_ * kWeightFours + warp_;
    const float4 a = at[0], b = at[kWarp * kWeightFours];
    float scores[2][4] = {{a.x, a.y, a.z, a.w}, {b.x, b.y, b.z, b.w}};
    PREGATE_UNROLL
    for (int c = 0; c < 4; ++c) {
      float top = max_[c];
      PREGATE_UNROLL
      for (int h = 0; h < 2; ++h) {
        const int position = start + lane_ + h * kWarp;
        const bool seen = position >= seen_begin_[c] && position < seen_end_[c];
        scores[h][c] = seen ? Score(scores[h][c], args_.scale, args_.cap) : -INFINITY;
        top = fmaxf(top, scores[h][c]);
      }
      top = WarpMax(top);
      const float decay = exp2f(max_[c] - top);
      PREGATE_UNROLL
      for (int h = 0; h < 2; ++h) scores[h][c] = exp2f(scores[h][c] - top);
      max_[c] = top;
      sum_[c] = __fmaf_rn(sum_[c], decay, WarpSum(scores[0][c] + scores[1][c]));
      if (lane_ == 0) SharedArray<float>(kDecayAt)[4 * warp_ + c] = decay;
    }
    at[0] = {scores[0][0], scores[0][1], scores[0][2], scores[0][3]};
    at[kWarp * kWeightFours] = {scores[1][0], scores[1][1], scores[1][2], scores[1][3]};
  }

  // Values [from, from + kStagedValues) of the tile, as far as they count.
  PREGATE_DEVICE void StageValues(int from, int lo, int hi) const {
    const int to = from + kStagedValues;
    Source::template StageValues<kDims>(args_, lines_, places(), from, from > lo ? from : lo,
                                        to < hi ? to : hi, stage());
  }

  PREGATE_DEVICE void Decay() {
    const float4* const decays = SharedArray<float4>(kDecayAt);
    PREGATE_UNROLL
    for (int u = 0; u < kThreadQuads; ++u) {
      if (MixQuad(u) >= quads_) continue;
      const float4 decay = decays[MixQuad(u)];
      PREGATE_UNROLL
      for (int d = 0; d < kThreadDims; ++d) {
        mix_[d][u][0] = __fmul_rn(mix_[d][u][0], decay.x);
        mix_[d][u][1] = __fmul_rn(mix_[d][u][1], decay.y);
        mix_[d][u][2] = __fmul_rn(mix_[d][u][2], decay.z);
        mix_[d][u][3] = __fmul_rn(mix_[d][u][3], decay.w);
      }
    }
  }

  PREGATE_DEVICE void MixStaged(int from, int lo, int hi) {
    const int first = from > lo ? from : lo;
    const int last = from + kStagedValues < hi ? from + kStagedValues : hi;
    const int used = (quads_ + kQuadStep - 1) / kQuadStep;  // of this thread's
    if (used <= 1) {
      AddValues<1>(from, first, last);
    } else if (used <= 2) {
      AddValues<2>(from, first, last);
    } else {
      AddValues<kThreadQuads>(from, first, last);
    }
  }
  template <int kQuads>
  PREGATE_DEVICE void AddValues(int from, int first, int last) {
    const float4* const weights_of_quad = weights() + MixQuad(0);
    for (int t = first; t < last; ++t) {
      float4 weight[kQuads];
      PREGATE_UNROLL
      for (int u = 0; u < kQuads; ++u) {
        weight[u] = weights_of_quad[t * kWeightFours + u * kQuadStep];
      }
      PREGATE_UNROLL
      for (int d = 0; d < kThreadDims; ++d) {
        const float value = stage()[(t - from) * kDims + Dim(d)];
        PREGATE_UNROLL
        for (int u = 0; u < kQuads; ++u) {
          float* const mix = mix_[d][u];
          mix[0] = __fmaf_rn(weight[u].x, value, mix[0]);
          mix[1] = __fmaf_rn(weight[u].y, value, mix[1]);
          mix[2] = __fmaf_rn(weight[u].z, value, mix[2]);
          mix[3] = __fmaf_rn(weight[u].w, value, mix[3]);
        }
      }
    }
  }

  const AttentionArgs& args_;
  const Lines& lines_;
  const int quads_;
  const int thread_ = static_cast<int>(threadIdx.x);
  const int lane_ = thread_ % kWarp;
  const int warp_ = thread_ / kWarp;
  // Of the warp's quad of lines, the same in every lane.
  int seen_begin_[4], seen_end_[4];
  float max_[4], sum_[4];
  float mix_[kThreadDims][kThreadQuads][4];
};

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_ATTENTION_SIMT_H_
