// The engine for caches of kF16, kBF16 and kF8E4M3 whose head_dim is a multiple of 16: tensor
// cores. Keys and values are halves (attention_stage.h); the other operand of each product is split
// into two halves, the second of what the first has rounded away, and multiplied twice.
//
// A query of floats may lie outside a half's range: each line is first multiplied by the power of
// two that brings its largest element to 2^10, which the float factor of its scores undoes.
// Weights, 1 at most, are multiplied by 2^10, which the sum of the weights shares.
//
// 16 lines are the rows of a matrix. In a wide block each warp has 16 lines of its own; in a block
// for few lines four warps share 16, of which each computes the scores of a quarter of the
// positions and a quarter of the mix. What a score, a sum or an element of the mix is added up
// from, and in which order, is the same.
//
// Which columns of a product are which positions (or elements of the mix), and in which order
// positions are summed, is ours to choose: such that a lane reads adjacent halves from shared
// memory, and that the scores a lane ends up with are the weights that it needs.
#ifndef PREGATE_KERNELS_CUDA_ATTENTION_MMA_H_
#define PREGATE_KERNELS_CUDA_ATTENTION_MMA_H_

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_stage.h"

namespace pregate::cuda {

// Two floats as the sums of two halves each.
struct SplitPair {
  uint32_t high, low;
};
PREGATE_DEVICE SplitPair Split(float a, float b) {
  const uint16_t high_a = ToHalf(a), high_b = ToHalf(b);
  return {high_a | static_cast<uint32_t>(high_b) << 16,
          PackHalves(a - FromHalf(high_a), b - FromHalf(high_b))};
}

// d += a b for a = high + low.
PREGATE_DEVICE void MmaSplit(float (&d)[4], const uint32_t (&high)[4], const uint32_t (&low)[4],
                             const uint32_t (&b)[2]) {
  MmaHalves(d, low, b);
  MmaHalves(d, high, b);
}

template <int kWords>
PREGATE_DEVICE void LoadWords(const char* from, uint32_t (&words)[kWords]) {
  if constexpr (kWords == 4) {
    const uint4 v = *reinterpret_cast<const uint4*>(from);
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
  } else {
    static_assert(kWords == 1);
    words[0] = *reinterpret_cast<const uint32_t*>(from);
  }
}

// Four rows of adjacent halves become the operands b of as many columns: row r of the four is
// k = 2t, 2t + 1, 2t + 8, 2t + 9 of gpu.h's lane.
template <int kTiles>
PREGATE_DEVICE void LoadColumns(const char* const (&rows)[4], uint32_t (&b)[kTiles][2]) {
  uint32_t words[4][kTiles / 2];
  PREGATE_UNROLL
  for (int r = 0; r < 4; ++r) LoadWords(rows[r], words[r]);
  PREGATE_UNROLL
  for (int j = 0; j < kTiles; ++j) {
    const unsigned halves = j % 2 == 0 ? 0x5410 : 0x7632;  // the first of both words, or the second
    b[j][0] = __byte_perm(words[0][j / 2], words[1][j / 2], halves);
    b[j][1] = __byte_perm(words[2][j / 2], words[3][j / 2], halves);
  }
}

// kChunks: of 64 elements, head_dim at most. kParts: 1, or 4 warps that share 16 lines. kType: of
// the cache.
template <int kChunks, int kParts, DType kType>
class MmaEngine {
  using Stage = MmaStage<kType>;

 public:
  static constexpr int kLines = 16 * kAttentionWarps / kParts;
  static constexpr int kBlocks = kParts > 1 ? (kChunks == 1 ? 5 : 4) : (kChunks == 1 ? 3 : 2);
  static size_t SharedBytes(int head_dim) {
    return StageAt(head_dim) + Stage::SharedBytes(head_dim);
  }

  PREGATE_DEVICE MmaEngine(const AttentionArgs& args, const Lines& lines)
      : args_(args), lines_(lines), stage_(args, lines, SharedArray<char>(StageAt(args.head_dim))) {
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      seen_begin_[h] = lines.SeenBegin(Line(h));
      seen_end_[h] = lines.SeenEnd(Line(h));
    }
  }

  PREGATE_DEVICE LineSums* sums() const { return SharedArray<LineSums>(); }

  PREGATE_DEVICE void Begin() {
    const int start = lines_.begin / kTile * kTile;
    if (stage_.Finds(start)) stage_.KeepPlace(stage_.FindPlace(start));
    stage_.Turn();
    SplitQueries();
    __syncthreads();
    stage_.IssueKeys(start);
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) scale_[h] = scales()[Line(h)];
  }

  PREGATE_DEVICE void RunSpan(int begin, int end) {
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      max_[h] = kEmptyMax;
      sum_[h] = 0;
    }
    PREGATE_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      PREGATE_UNROLL
      for (int j = 0; j < kTiles; ++j) {
        PREGATE_UNROLL
        for (int n = 0; n < 4; ++n) mix_[c][j][n] = 0;
      }
    }
    for (int start = begin / kTile * kTile; start < end; start += kTile) RunTile(start);
  }

  PREGATE_DEVICE void PublishSums(LineSums* sums) const {
    if (t_ > 0 || part_ > 0) return;
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) sums[Line(h)].part = {max_[h], sum_[h]};
  }

  template <typename F>
  PREGATE_DEVICE void Visit(F f) const {
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      if (Line(h) >= lines_.count) continue;
      PREGATE_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        PREGATE_UNROLL
        for (int q = 0; q < 2 * kTiles; ++q) {  // q: of the adjacent elements
          const int i = 64 * c + Own() + q;
          if (i < args_.head_dim) f(Line(h), i, mix_[c][q % kTiles][2 * h + q / kTiles]);
        }
      }
    }
  }

 private:
  // Column tiles of a warp: of 64 positions or elements. Column c of tile j is position (element)
  // kTiles * c + j of the warp's.
  static constexpr int kTiles = 8 / kParts;
  static constexpr float kWeightScale = 1024.0f;

  // Lane (g, t) has, of the sums of lines g (h = 0) and g + 8 (h = 1), columns 2t and 2t + 1: 2
  // kTiles adjacent positions (elements) from here on.
  PREGATE_DEVICE int Own() const { return 8 * kTiles * part_ + 2 * kTiles * t_; }
  // Of the operands b it has column g: kTiles adjacent ones from here on.
  PREGATE_DEVICE int OwnColumn() const { return 8 * kTiles * part_ + kTiles * g_; }
  PREGATE_DEVICE int Line(int h) const { return 16 * matrix_ + g_ + 8 * h; }

  // --- Shared memory. ---

  struct Exchange {  // between the warps that share lines
    float max[kParts][16];
    float sum[kParts][16];
    uint16_t high[16][kTile + 4];  // weights; rows are in different banks
    uint16_t low[16][kTile + 4];
  };
  static constexpr size_t kScalesAt = kLines * sizeof(LineSums);
  static constexpr size_t kExchangeAt = kScalesAt + kLines * sizeof(float);
  static constexpr size_t kQueriesAt = kExchangeAt + (kParts > 1 ? sizeof(Exchange) : 0);
  static_assert(kQueriesAt % 16 == 0);

  // Queries as operands a: [16 lines][16 elements][high, low][lane].
  static constexpr size_t kQueryStepBytes = 2 * kWarp * sizeof(uint4);
  PREGATE_HOST_DEVICE static size_t StageAt(int head_dim) {
    return kQueriesAt + static_cast<size_t>(kLines / 16 * head_dim / 16) * kQueryStepBytes;
  }
  PREGATE_DEVICE float* scales() const { return SharedArray<float>(kScalesAt); }
  PREGATE_DEVICE Exchange* exchange() const { return SharedArray<Exchange>(kExchangeAt); }
  PREGATE_DEVICE const uint4* Queries(int step) const {
    return SharedArray<uint4>(kQueriesAt +
                              static_cast<size_t>(matrix_ * (args_.head_dim / 16) + step) *
                                  kQueryStepBytes) +
           lane_;
  }

  // --- Queries. ---

  // The power of two that brings `max` to [2^10, 2^11), within what floats can hold.
  static PREGATE_DEVICE float PowerFor(float max) {
    const int exponent = 127 + 10 + 127 - static_cast<int>(__float_as_uint(max) >> 23);
    const int kept = exponent < 2 ? 2 : exponent > 252 ? 252 : exponent;
    return __uint_as_float(static_cast<uint32_t>(kept) << 23);
  }

  PREGATE_DEVICE void SplitQueries() {
    const int dim = args_.head_dim;
    for (int line = warp_; line < kLines; line += kAttentionWarps) {
      const float* const query = line < lines_.count ? lines_.Query(args_, line) : nullptr;
      float max = 0;
      if (query != nullptr) {
        for (int i = lane_; i < dim; i += kWarp) max = fmaxf(max, fabsf(query[i]));
      }
      const float power = PowerFor(WarpMax(max));
      // Elements i and i + 1 are one word of the lane (g, t) that gpu.h names.
      auto* const words = SharedArray<uint32_t>(
          kQueriesAt + static_cast<size_t>(line / 16 * (dim / 16)) * kQueryStepBytes);
      const int g = line % 8;
      for (int i = 2 * lane_; i < dim; i += 2 * kWarp) {
        const SplitPair pair =
            query != nullptr ? Split(query[i] * power, query[i + 1] * power) : SplitPair{0, 0};
        const int owner = 4 * g + i % 8 / 2;
        const int word = line % 16 / 8 + i % 16 / 8 * 2;
        uint32_t* const step = words + i / 16 * static_cast<int>(kQueryStepBytes / 4);
        step[owner * 4 + word] = pair.high;
        step[(kWarp + owner) * 4 + word] = pair.low;
      }
      if (lane_ == 0) {
        // 1 / power: exponents of both add up to 254.
        const uint32_t inverse = (254u << 23) - __float_as_uint(power);
        scales()[line] = args_.scale * __uint_as_float(inverse);
      }
    }
  }

  // --- A tile. ---

  PREGATE_DEVICE void RunTile(int start) {
    WaitForCopies<0>();
    stage_.ConvertKeys(start);
    __syncthreads();  // the keys are there; values and weights before are done with
    stage_.IssueValues(start);
    const int next = start + kTile;
    const bool finds = stage_.Finds(next);
    Place place = {};
    if (finds) place = stage_.FindPlace(next);
    float scores[kTiles][4];
    float decay[2], total[2];
    Multiply(scores);
    Weigh(start, scores, decay, total);
    if (finds) stage_.KeepPlace(place);
    WaitForCopies<0>();
    stage_.ConvertValues();
    __syncthreads();  // the values and all weights are there; the keys are done with
    stage_.Turn();
    if (next < lines_.end) stage_.IssueKeys(next);
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      if constexpr (kParts > 1) {
        const auto& sum = exchange()->sum;
        const int line = g_ + 8 * h;
        total[h] = (sum[0][line] + sum[1][line]) + (sum[2][line] + sum[3][line]);
      }
      sum_[h] = __fmaf_rn(sum_[h], decay[h], total[h]);
    }
    Mix(scores, decay);
  }

  // Products of the queries with the warp's positions.
  PREGATE_DEVICE void Multiply(float (&scores)[kTiles][4]) const {
    PREGATE_UNROLL
    for (int j = 0; j < kTiles; ++j) {
      PREGATE_UNROLL
      for (int n = 0; n < 4; ++n) scores[j][n] = 0;
    }
    const char* row = stage_.KeyAt(2 * t_) + OwnColumn() * 2;
    for (int step = 0; step < args_.head_dim / 16; ++step, row += 16 * Stage::kKeyBytes) {
      uint32_t b[kTiles][2];
      LoadColumns<kTiles>(
          {row, row + Stage::kKeyBytes, row + 8 * Stage::kKeyBytes, row + 9 * Stage::kKeyBytes}, b);
      const uint4 high = Queries(step)[0], low = Queries(step)[kWarp];
      const uint32_t a_high[4] = {high.x, high.y, high.z, high.w};
      const uint32_t a_low[4] = {low.x, low.y, low.z, low.w};
      PREGATE_UNROLL
      for (int j = 0; j < kTiles; ++j) MmaSplit(scores[j], a_high, a_low, b[j]);
    }
  }

  // Position q of the adjacent ones that this lane has, of line h.
  static PREGATE_DEVICE float& At(float (&scores)[kTiles][4], int h, int q) {
    return scores[q % kTiles][2 * h + q / kTiles];
  }

  // Products become weights. total: their sum, unless it is for others to add up.
  PREGATE_DEVICE void Weigh(int start, float (&scores)[kTiles][4], float (&decay)[2],
                            float (&total)[2]) {
    float top[2];
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      top[h] = max_[h];
      PREGATE_UNROLL
      for (int q = 0; q < 2 * kTiles; ++q) {
        const int position = start + Own() + q;
        const bool seen = position >= seen_begin_[h] && position < seen_end_[h];
        float& score = At(scores, h, q);
        score = seen ? Score(score, scale_[h], args_.cap) : -INFINITY;
        top[h] = fmaxf(top[h], score);
      }
      top[h] = fmaxf(top[h], __shfl_xor_sync(kAllLanes, top[h], 1));
      top[h] = fmaxf(top[h], __shfl_xor_sync(kAllLanes, top[h], 2));
    }
    if constexpr (kParts > 1) ShareTops(top);
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      decay[h] = exp2f(max_[h] - top[h]);
      max_[h] = top[h];
      PREGATE_UNROLL
      for (int q = 0; q < 2 * kTiles; ++q) {
        At(scores, h, q) = __fmul_rn(exp2f(At(scores, h, q) - top[h]), kWeightScale);
      }
      total[h] = SumOfFours(scores, h);
      total[h] += __shfl_xor_sync(kAllLanes, total[h], 1);
      total[h] += __shfl_xor_sync(kAllLanes, total[h], 2);
    }
    if constexpr (kParts > 1) ShareWeights(scores, total);
  }

  // The lane's part of the tile's sum. The tree is the same whoever has which of its leaves: fours
  // of adjacent positions in order, then fours of fours in pairs, then fours of those.
  static PREGATE_DEVICE float SumOfFours(float (&p)[kTiles][4], int h) {
    float fours[kTiles / 2];
    PREGATE_UNROLL
    for (int n = 0; n < kTiles / 2; ++n) {
      fours[n] =
          ((At(p, h, 4 * n) + At(p, h, 4 * n + 1)) + At(p, h, 4 * n + 2)) + At(p, h, 4 * n + 3);
    }
    if constexpr (kTiles == 8) return (fours[0] + fours[1]) + (fours[2] + fours[3]);
    return fours[0];
  }

  PREGATE_DEVICE void ShareTops(float (&top)[2]) const {
    auto& max = exchange()->max;
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      if (t_ == 0) max[part_][g_ + 8 * h] = top[h];
    }
    __syncthreads();
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      PREGATE_UNROLL
      for (int p = 0; p < kParts; ++p) top[h] = fmaxf(top[h], max[p][g_ + 8 * h]);
    }
  }
  PREGATE_DEVICE void ShareWeights(float (&weights)[kTiles][4], const float (&total)[2]) const {
    Exchange& room = *exchange();
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int line = g_ + 8 * h;
      if (t_ == 0) room.sum[part_][line] = total[h];
      const SplitPair a = Split(At(weights, h, 0), At(weights, h, 1));
      const SplitPair b = Split(At(weights, h, 2), At(weights, h, 3));
      *reinterpret_cast<uint2*>(&room.high[line][Own()]) = {a.high, b.high};
      *reinterpret_cast<uint2*>(&room.low[line][Own()]) = {a.low, b.low};
    }
  }

  // The operand a of positions 16 t + 4 step .. + 3 of every lane's t.
  PREGATE_DEVICE void TakeWeights(float (&weights)[kTiles][4], int step, uint32_t (&high)[4],
                                  uint32_t (&low)[4]) const {
    PREGATE_UNROLL
    for (int h = 0; h < 2; ++h) {
      if constexpr (kParts > 1) {
        const int line = g_ + 8 * h, position = 16 * t_ + 4 * step;
        const uint2 a = *reinterpret_cast<const uint2*>(&exchange()->high[line][position]);
        const uint2 b = *reinterpret_cast<const uint2*>(&exchange()->low[line][position]);
        high[h] = a.x, high[2 + h] = a.y;
        low[h] = b.x, low[2 + h] = b.y;
      } else {
        PREGATE_UNROLL
        for (int n = 0; n < 2; ++n) {
          const int q = 4 * step + 2 * n;
          const SplitPair pair = Split(At(weights, h, q), At(weights, h, q + 1));
          high[2 * n + h] = pair.high;
          low[2 * n + h] = pair.low;
        }
      }
    }
  }

  PREGATE_DEVICE void Mix(float (&weights)[kTiles][4], const float (&decay)[2]) {
    PREGATE_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      PREGATE_UNROLL
      for (int j = 0; j < kTiles; ++j) {
        PREGATE_UNROLL
        for (int n = 0; n < 4; ++n) mix_[c][j][n] = __fmul_rn(mix_[c][j][n], decay[n / 2]);
      }
    }
    PREGATE_UNROLL
    for (int step = 0; step < 4; ++step) {
      uint32_t high[4], low[4];
      TakeWeights(weights, step, high, low);
      const int t = 16 * t_ + 4 * step;
      PREGATE_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        if (64 * c + 8 * kTiles * part_ >= args_.head_dim) continue;  // the same for the warp
        const int column = 64 * c + OwnColumn();
        // Columns behind the last are computed from others, and left out by Visit.
        const int at = column < args_.head_dim ? column * 2 : 0;
        uint32_t b[kTiles][2];
        LoadColumns<kTiles>({stage_.ValueAt(t) + at, stage_.ValueAt(t + 1) + at,
                             stage_.ValueAt(t + 2) + at, stage_.ValueAt(t + 3) + at},
                            b);
        PREGATE_UNROLL
        for (int j = 0; j < kTiles; ++j) MmaSplit(mix_[c][j], high, low, b[j]);
      }
    }
  }

  const AttentionArgs& args_;
  const Lines& lines_;
  const int thread_ = static_cast<int>(threadIdx.x);
  const int lane_ = thread_ % kWarp;
  const int warp_ = thread_ / kWarp;
  const int matrix_ = warp_ / kParts;  // of 16 lines
  const int part_ = warp_ % kParts;
  const int g_ = lane_ / 4, t_ = lane_ % 4;
  Stage stage_;
  // Of lines g and g + 8.
  int seen_begin_[2], seen_end_[2];
  float scale_[2], max_[2], sum_[2];
  float mix_[kChunks][kTiles][4];
};

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_ATTENTION_MMA_H_
