// A gate's choice and the sum of what the chosen experts give.
#include <cassert>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/ordered_keys.h"
#include "kernels/cuda/quads.h"

namespace pregate::cuda {
namespace {

// --- The choice: a warp has a row; lane l looks after experts l, l + 32, ... ---

constexpr int kGateRows = 4;  // in a block

// An expert and its logit as one number: the better expert's is the larger, and no two are equal.
// None is 0.
using Rank = uint64_t;

// A NaN counts as the smallest, and zeros of either sign are equal.
__device__ __forceinline__ float GateKey(float logit) {
  return logit == logit ? logit + 0.0f : -INFINITY;
}

__device__ __forceinline__ Rank RankOf(float logit, int32_t expert) {
  return EntryOf(OrderedKey(__float_as_uint(GateKey(logit))), expert);
}
__device__ __forceinline__ float KeyOf(Rank rank) { return FloatOfKey(KeyOfEntry(rank)); }

// The largest of this lane's ranks below `limit`; 0: none is left.
__device__ __forceinline__ Rank BestBelow(Rank limit, const float* logits, int32_t experts,
                                          int32_t lane) {
  Rank best = 0;
  for (int32_t e = lane; e < experts; e += kWarp) {
    const Rank rank = RankOf(logits[e], e);
    if (rank < limit && rank > best) best = rank;
  }
  return best;
}

__device__ __forceinline__ Rank WarpBest(Rank rank) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const Rank other = __shfl_xor_sync(kAllLanes, rank, offset);
    rank = other > rank ? other : rank;
  }
  return rank;
}

__device__ __forceinline__ float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__global__ void TopKGateKernel(ConstTensor logits, ConstTensor shared_logits, GateParams params,
                               int32_t* ids, float* weights) {
  const int64_t r = int64_t{blockIdx.x} * kGateRows + threadIdx.y;
  if (r >= logits.rows) return;
  const auto lane = static_cast<int32_t>(threadIdx.x);
  const float* const row = logits.Row<float>(r);
  const auto experts = static_cast<int32_t>(logits.cols);
  const int32_t k = params.k, per_row = k + (params.shared ? 1 : 0);
  const bool softmax = params.scoring == GateParams::Scoring::kSoftmax;
  ids += r * per_row;
  weights += r * per_row;
  Rank own = BestBelow(~Rank{0}, row, experts, lane), best = WarpBest(own);
  const float largest = KeyOf(best);
  float chosen = 0;  // sum of the scores of the k
  for (int32_t j = 0; j < k; ++j) {
    const float score = softmax ? expf(KeyOf(best) - largest) : Sigmoid(KeyOf(best));
    chosen += score;
    if (lane == j % kWarp) {
      ids[j] = PositionOfEntry(best);
      weights[j] = score;
    }
    if (own == best) own = BestBelow(best, row, experts, lane);
    best = WarpBest(own);
  }
  float divisor = 1.0f;
  if (params.renormalize) {
    divisor = fmaxf(chosen, 1e-20f);
  } else if (softmax) {
    float sum = 0;
    for (int32_t e = lane; e < experts; e += kWarp) sum += expf(GateKey(row[e]) - largest);
    divisor = WarpSum(sum);
  }
  // Each lane what it wrote itself.
  for (int32_t j = lane; j < k; j += kWarp) weights[j] = weights[j] / divisor * params.scale;
  if (params.shared && lane == 0) {
    ids[k] = experts;
    weights[k] = shared_logits ? Sigmoid(GateKey(*shared_logits.Row<float>(r))) : 1.0f;
  }
}

// --- The sum: a thread has a quad of a row. ---

__global__ void CombineKernel(ConstTensor y, const int32_t* positions, const float* weights,
                              int32_t k, Tensor out, bool wide) {
  constexpr int kAtOnce = 4;  // rows of y that are on their way together
  const int64_t r = QuadRow(), column = QuadColumn(), cols = out.cols;
  if (r >= out.rows || column >= cols) return;
  Quad sum = {};
  for (int32_t begin = 0; begin < k; begin += kAtOnce) {
    int32_t from[kAtOnce];
    float weight[kAtOnce];
    Quad part[kAtOnce];
    for (int j = 0; j < kAtOnce; ++j) {
      const bool any = begin + j < k;
      from[j] = any ? positions[r * k + begin + j] : -1;
      weight[j] = any && weights != nullptr ? weights[r * k + begin + j] : 1.0f;
    }
    for (int j = 0; j < kAtOnce; ++j) {
      part[j] = from[j] < 0 ? Quad{} : LoadQuad(y.Row<float>(from[j]), column, cols, wide);
    }
    for (int j = 0; j < kAtOnce; ++j) {
      if (from[j] < 0) continue;
      for (int i = 0; i < 4; ++i) sum.e[i] = fmaf(weight[j], part[j].e[i], sum.e[i]);
    }
  }
  StoreQuad(out.Row<float>(r), column, cols, wide, sum);
}

}  // namespace

void TopKGate(Device& device, ConstTensor logits, ConstTensor shared_logits,
              const GateParams& params, int32_t* ids, float* weights) {
  assert(params.k >= 1 && params.k <= logits.cols);
  assert(!shared_logits || (params.shared && shared_logits.rows == logits.rows));
  Launch(device, TopKGateKernel, {{Blocks(logits.rows, kGateRows)}, {kWarp, kGateRows}}, logits,
         shared_logits, params, ids, weights);
}

void CombineRows(Device& device, ConstTensor y, const int32_t* positions, const float* weights,
                 int32_t k, Tensor out) {
  assert(y.cols == out.cols);
  Launch(device, CombineKernel, QuadGrid(out.rows, out.cols), y, positions, weights, k, out,
         IsWide(y) && IsWide(out));
}

}  // namespace pregate::cuda
