// What one lane of a warp reads of a weight (weight_forms.h): of a tile of 32 rows and a chunk of
// 32 columns its rows g + 8 i (i < 4) and of each its eight columns.
#ifndef PREGATE_KERNELS_CUDA_LANE_WEIGHTS_H_
#define PREGATE_KERNELS_CUDA_LANE_WEIGHTS_H_

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/weight_forms.h"

namespace pregate::cuda {

// A weight as kernels address it.
struct WeightView {
  const char* data;
  const char* super;  // the numbers for 256 columns; null: there are none
  int64_t stride;     // bytes: plain types from row to row, others from tile to tile
  int rows;
  int cols;
  float factor;  // multiplies what is stored
};

template <DType kType>
__device__ __forceinline__ WeightView ViewWeight(const void* packed, int rows, int cols) {
  constexpr QuantForm kForm = QuantFormOf(kType);
  WeightView view = {static_cast<const char*>(packed), nullptr, 0, rows, cols, 1.0f};
  if constexpr (kForm.bits == 0) {
    view.stride = PlainRowsBytes(kType, 1, cols);
    if (kType == DType::kBF16) {
      view.factor = __ldg(reinterpret_cast<const float*>(view.data + rows * view.stride));
    }
  } else {
    view.stride = cols / kChunkColumns * int64_t{RecordBytes(kForm)};
    if (kForm.super) view.super = view.data + TilesOf(rows) * view.stride;
  }
  return view;
}

// The column inside a chunk of a lane's element j, t being lane % 4.
template <DType kType>
__device__ __forceinline__ int LaneColumn(int t, int j) {
  return kType == DType::kQ6_K ? j / 4 * 16 + 4 * t + j % 4 : 8 * t + j;
}

// Half i of those in the words from `words` on.
__device__ __forceinline__ float HalfOf(const uint32_t* words, int i) {
  return FromHalf(static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2))));
}
__device__ __forceinline__ int ByteOf(uint32_t word, int i) { return word >> (8 * i) & 0xFF; }

// An integer below 2^23, minus `offset`: cheaper than a conversion.
__device__ __forceinline__ float SmallInteger(uint32_t value, int offset) {
  return __uint_as_float(0x4B000000u | value) - static_cast<float>((1 << 23) + offset);
}

// A quantised type.
template <DType kType>
struct LaneWeights {
  static constexpr QuantForm kForm = QuantFormOf(kType);
  static constexpr bool kScaled = true;                      // products are sums of scaled parts
  static constexpr bool kSixteen = kType == DType::kQ6_K;    // scales are for 16 columns
  static constexpr bool kMinimum = kForm.minimum;            // and there is a number to add
  static constexpr int kLowWords = kForm.bits == 8 ? 8 : 4;  // of quants
  static constexpr int kHighWords = kForm.bits == 5 ? 1 : 2;
  static constexpr int kScaleWords = (kForm.minimum && !kForm.super) || kForm.e4m3 ? 4 : 2;
  static constexpr int kSuperWords = kForm.minimum ? 4 : 2;

  uint32_t low[kLowWords];
  uint32_t high[kHighWords];
  uint32_t scales[kScaleWords];
  uint32_t super[kSuperWords];

  __device__ __forceinline__ void Load(const WeightView& weight, int tile, int chunk, int lane) {
    const char* const record =
        weight.data + tile * weight.stride + int64_t{chunk} * RecordBytes(kForm);
    PREGATE_UNROLL
    for (int part = 0; part < kLowWords / 4; ++part) {
      const uint4 v = LoadOnce(reinterpret_cast<const uint4*>(record + part * 512) + lane);
      low[part * 4] = v.x;
      low[part * 4 + 1] = v.y;
      low[part * 4 + 2] = v.z;
      low[part * 4 + 3] = v.w;
    }
    const char* const bits = record + HighBitsAt(kForm);
    if constexpr (kForm.bits == 5) high[0] = __ldg(reinterpret_cast<const uint32_t*>(bits) + lane);
    if constexpr (kForm.bits == 6) LoadWords(bits, lane, high);
    LoadWords(record + ScalesAt(kForm), lane / 4, scales);
    if constexpr (kForm.super) {
      const int64_t block = int64_t{tile} * (weight.cols / 256) + chunk / 8;
      LoadWords(weight.super + block * SuperBytes(kForm), lane / 4, super);
    }
  }

  // Of row i; of the first or last 16 columns where kSixteen.
  __device__ __forceinline__ float Scale(int i, int half) const {
    if constexpr (kSixteen) {
      const auto scale = static_cast<int8_t>(ByteOf(scales[half], i));
      return __fmul_rn(HalfOf(super, i), static_cast<float>(scale));
    } else if constexpr (kForm.super) {
      return __fmul_rn(HalfOf(super, i), SmallInteger(ByteOf(scales[0], i), 0));
    } else if constexpr (kForm.e4m3) {
      return __uint_as_float(scales[i]);
    } else {
      return HalfOf(scales, i);
    }
  }
  // What row i adds to each of the columns, with kMinimum.
  __device__ __forceinline__ float Minimum(int i) const {
    if constexpr (!kMinimum) {
      return 0.0f;
    } else if constexpr (kForm.super) {
      return -__fmul_rn(HalfOf(super + 2, i), SmallInteger(ByteOf(scales[1], i), 0));
    } else {
      return HalfOf(scales + kScaleWords - 2, i);
    }
  }

  // Quants of row i less their offset, exact as halves: two elements a word, in the order of
  // LaneColumn. In a half of 1024 the last bit counts one, so that an integer is put there with
  // bit operations and 1024 subtracted; every second nibble lies four bits higher and counts 16
  // times as much.
  __device__ __forceinline__ void Pairs(int i, uint32_t (&pairs)[4]) const {
    constexpr uint32_t kBoth = 0x00010001;
    constexpr uint32_t k1024 = 0x6400 * kBoth;
    constexpr uint32_t kSubtract = (0x6400 + kForm.offset) * kBoth;           // 1024 + offset
    constexpr uint32_t kSixteenth = 0x2C00 * kBoth;                           // 1 / 16
    constexpr uint32_t kAdd = (0xD400u + 16u * kForm.offset % 1024) * kBoth;  // -64 - offset
    PREGATE_UNROLL
    for (int p = 0; p < 4; ++p) {
      if constexpr (kForm.e4m3) {
        pairs[p] = HalvesOfE4M3(PairOfE4M3(low[i * 2 + p / 2], p % 2 != 0));
      } else if constexpr (kForm.bits == 8) {
        const uint32_t word = low[i * 2 + p / 2];
        pairs[p] =
            SubHalves(__byte_perm(word, 0x64646464, p % 2 == 0 ? 0x4140 : 0x4342), kSubtract);
      } else {
        const uint32_t nibbles = p < 2 ? low[i] : low[i] >> 8;
        if (p % 2 == 0) {
          pairs[p] = SubHalves((nibbles & 0x000F000F) | HighPair(i, p, 4) | k1024, kSubtract);
        } else {
          pairs[p] =
              FmaHalves((nibbles & 0x00F000F0) | HighPair(i, p, 8) | k1024, kSixteenth, kAdd);
        }
      }
    }
  }

  // The values of row i, in the order of LaneColumn, rounded as DequantizeRow rounds them.
  __device__ __forceinline__ void Values(int i, float (&values)[kLaneColumns]) const {
    const float minimum = Minimum(i);
    uint32_t pairs[4];
    if constexpr (kForm.e4m3) Pairs(i, pairs);
    PREGATE_UNROLL
    for (int j = 0; j < kLaneColumns; ++j) {
      const float quant = kForm.e4m3 ? HalfOf(pairs, j) : SmallInteger(Quant(i, j), kForm.offset);
      const float scaled = __fmul_rn(Scale(i, j / 4), quant);
      values[j] = kMinimum ? __fadd_rn(scaled, minimum) : scaled;
    }
  }

 private:
  static __device__ __forceinline__ void LoadWords(const char* from, int index,
                                                   uint32_t (&words)[2]) {
    const uint2 v = __ldg(reinterpret_cast<const uint2*>(from) + index);
    words[0] = v.x;
    words[1] = v.y;
  }
  static __device__ __forceinline__ void LoadWords(const char* from, int index,
                                                   uint32_t (&words)[4]) {
    const uint4 v = __ldg(reinterpret_cast<const uint4*>(from) + index);
    words[0] = v.x;
    words[1] = v.y;
    words[2] = v.z;
    words[3] = v.w;
  }

  // The bits beyond four of pair p of row i, at bit `at` of both halves.
  __device__ __forceinline__ uint32_t HighPair(int i, int p, int at) const {
    if constexpr (kForm.bits == 5 || kForm.bits == 6) {
      const uint32_t mask = (kForm.bits == 5 ? 0x00010001u : 0x00030003u) << at;
      const uint32_t word = kForm.bits == 5 ? high[0] : high[i / 2];
      const int right = (kForm.bits == 5 ? 4 * i + p : 8 * (i % 2) + 2 * p) - at;
      return (right >= 0 ? word >> right : word << -right) & mask;
    } else {
      return 0;
    }
  }

  // As stored.
  __device__ __forceinline__ uint32_t Quant(int i, int j) const {
    if constexpr (kForm.bits == 8) {
      return low[i * 2 + j / 4] >> (8 * (j % 4)) & 0xFF;
    } else {
      const int odd = 16 * (j % 2);
      uint32_t quant = low[i] >> (odd + 4 * (j / 2)) & 15;
      if constexpr (kForm.bits == 5) quant |= (high[0] >> (odd + 4 * i + j / 2) & 1) << 4;
      if constexpr (kForm.bits == 6) {
        quant |= (high[i / 2] >> (odd + 8 * (i % 2) + 2 * (j / 2)) & 3) << 4;
      }
      return quant;
    }
  }
};

// A plain type: kWords words of each row. The values of kBF16 are without the weight's factor.
template <int kWords>
struct LanePlain {
  static constexpr bool kScaled = false;
  static constexpr bool kSixteen = false;
  static constexpr bool kMinimum = false;

  uint32_t words[kLaneRows][kWords];

  // Zeros stand for columns behind the last; rows behind the last are copies of it.
  __device__ __forceinline__ void Load(const WeightView& weight, int tile, int chunk, int lane) {
    const int column = chunk * kChunkColumns + lane % 4 * kLaneColumns;
    PREGATE_UNROLL
    for (int i = 0; i < kLaneRows; ++i) {
      const int row = tile * kTileRows + lane / 4 + 8 * i;
      const char* const from = weight.data +
                               (row < weight.rows ? row : weight.rows - 1) * weight.stride +
                               column * int64_t{kWords / 2};
      PREGATE_UNROLL
      for (int part = 0; part < kWords / 4; ++part) {
        uint4 v = {0, 0, 0, 0};
        if (column < weight.cols) v = LoadOnce(reinterpret_cast<const uint4*>(from) + part);
        words[i][part * 4] = v.x;
        words[i][part * 4 + 1] = v.y;
        words[i][part * 4 + 2] = v.z;
        words[i][part * 4 + 3] = v.w;
      }
    }
  }

  // See above.
  __device__ __forceinline__ void Pairs(int i, uint32_t (&pairs)[4]) const {
    static_assert(kWords == 4);
    PREGATE_UNROLL
    for (int p = 0; p < 4; ++p) pairs[p] = words[i][p];
  }

  __device__ __forceinline__ void Values(int i, float (&values)[kLaneColumns]) const {
    PREGATE_UNROLL
    for (int j = 0; j < kLaneColumns; ++j) {
      values[j] = kWords == 8 ? __uint_as_float(words[i][j * kWords / 8]) : HalfOf(words[i], j);
    }
  }
};
template <>
struct LaneWeights<DType::kF32> : LanePlain<8> {};
template <>
struct LaneWeights<DType::kF16> : LanePlain<4> {};
template <>
struct LaneWeights<DType::kBF16> : LanePlain<4> {};

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_LANE_WEIGHTS_H_
