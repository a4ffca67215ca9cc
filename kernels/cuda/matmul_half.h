// Products with activations that are halves (activation_form.h), on the tensor cores: what the
// kernel for few rows and the one for many have in common, so that a row has the same bits in both.
#ifndef PREGATE_KERNELS_CUDA_MATMUL_HALF_H_
#define PREGATE_KERNELS_CUDA_MATMUL_HALF_H_

#include "kernels/cuda/activation_form.h"
#include "kernels/cuda/lane_weights.h"
#include "kernels/cuda/products.h"

namespace pregate::cuda {

// Rows of x that a tensor core takes at once: a group. And the parts of 16 outputs of a tile.
inline constexpr int kGroupRows = 8;
inline constexpr int kPanels = 2;

// A lane's part of a group's 32 columns: of row g = lane / 4, as two operands of a product, and of
// rows 2t and 2t + 1, t = lane % 4, the sums.
struct RightOperand {
  uint32_t words[4];
  float sums[2];
};

// What a lane has summed of a tile, [panel][group][e]: of output 16 panel + g + 8 (e / 2) and row 8
// group + 2t + e % 2.
template <int kGroups>
using LaneSums = float[kPanels][kGroups][4];

// sums += the products of a chunk with the first `groups` groups, which right(group) gives. Quants
// and activations are halves whose products are exact; the sum over the columns of one scale is
// formed by the tensor core and scaled in float.
template <DType kType, int kGroups, typename Right>
__device__ __forceinline__ void MultiplyChunk(const LaneWeights<kType>& weights, int groups,
                                              const Right& right, LaneSums<kGroups>& sums) {
  using Weights = LaneWeights<kType>;
  uint32_t left[kPanels][2][4];
  PREGATE_UNROLL
  for (int panel = 0; panel < kPanels; ++panel) {
    uint32_t upper[4], lower[4];
    weights.Pairs(2 * panel, upper);
    weights.Pairs(2 * panel + 1, lower);
    PREGATE_UNROLL
    for (int product = 0; product < 2; ++product) {
      left[panel][product][0] = upper[2 * product];
      left[panel][product][1] = lower[2 * product];
      left[panel][product][2] = upper[2 * product + 1];
      left[panel][product][3] = lower[2 * product + 1];
    }
  }
  PREGATE_UNROLL
  for (int group = 0; group < kGroups; ++group) {
    if (group >= groups) break;
    const RightOperand operand = right(group);
    const uint32_t first[2] = {operand.words[0], operand.words[1]};
    const uint32_t second[2] = {operand.words[2], operand.words[3]};
    PREGATE_UNROLL
    for (int panel = 0; panel < kPanels; ++panel) {
      float(&sum)[4] = sums[panel][group];
      if constexpr (!Weights::kScaled) {
        MmaHalves(sum, left[panel][0], first);
        MmaHalves(sum, left[panel][1], second);
      } else {
        float part[4] = {}, other[4] = {};
        MmaHalves(part, left[panel][0], first);
        if constexpr (Weights::kSixteen) {
          MmaHalves(other, left[panel][1], second);
        } else {
          MmaHalves(part, left[panel][1], second);
        }
        PREGATE_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int i = 2 * panel + e / 2;
          sum[e] = __fmaf_rn(weights.Scale(i, 0), part[e], sum[e]);
          if constexpr (Weights::kSixteen) {
            sum[e] = __fmaf_rn(weights.Scale(i, 1), other[e], sum[e]);
          }
          if constexpr (Weights::kMinimum) {
            sum[e] = __fmaf_rn(weights.Minimum(i), operand.sums[e % 2], sum[e]);
          }
        }
      }
    }
  }
}

// Where element e of a lane's sums belongs, in the tile and in the rows of its block.
__device__ __forceinline__ int OutputOf(int panel, int e, int lane) {
  return 16 * panel + lane / 4 + 8 * (e / 2);
}
__device__ __forceinline__ int RowOf(int group, int e, int lane) {
  return kGroupRows * group + 2 * (lane % 4) + e % 2;
}

// Writes a sum over all slices.
__device__ __forceinline__ void StoreScaled(const ProductTask& task, const BlockPart& part,
                                            const HalfActivations& x, const WeightView& weight,
                                            int row, int column, float sum) {
  if (row >= part.end_row) return;
  // Powers of two: their product is exact.
  const float scale = __fmul_rn(__ldg(x.scales + row), weight.factor);
  Store(task, part, row, column, __fmul_rn(sum, scale));
}

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_MATMUL_HALF_H_
