// Rows in the order of the experts that a gate has chosen, without a word to the host.
#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

// How many of the block's threads before this one, and how many in all, have said `yes`. `room`:
// kWarps counts in shared memory.
struct Votes {
  int before;
  int all;
};
__device__ Votes CountVotes(bool yes, int* room) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const unsigned votes = __ballot_sync(kAllLanes, yes);
  if (lane == 0) room[warp] = __popc(votes);
  __syncthreads();
  Votes result = {__popc(votes & ((1u << lane) - 1)), 0};
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) result.before += room[w];
    result.all += room[w];
  }
  __syncthreads();  // the room may be used again
  return result;
}

// A block for each expert. The rows of the experts before it are as many as there are smaller ids:
// each block counts them for itself, so that none waits for another.
__global__ void SortKernel(const int32_t* ids, int64_t count, int32_t k, ExpertOrder order) {
  int* const room = SharedArray<int>();
  const auto expert = static_cast<int32_t>(blockIdx.x);
  const bool here = (expert >= order.first && expert < order.end) || expert == order.shared;
  const int64_t tiles = (count + kThreads - 1) / kThreads;
  int32_t next = 0;  // where the expert's rows start, then where the next tile's go
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t i = tile * kThreads + threadIdx.x;
    next += CountVotes(i < count && ids[i] < expert, room).all;
  }
  if (threadIdx.x == 0) order.start[expert] = next;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t i = tile * kThreads + threadIdx.x;
    const bool own = i < count && ids[i] == expert;
    const Votes votes = CountVotes(own, room);
    if (own) {
      order.rows[next + votes.before] = static_cast<int32_t>(i / k);
      order.positions[i] = here ? next + votes.before : -1;
    }
    next += votes.all;
  }
  if (threadIdx.x == 0 && expert == static_cast<int32_t>(gridDim.x) - 1) {
    order.start[expert + 1] = next;
  }
}

}  // namespace

void SortByExpert(Device& device, const int32_t* ids, int64_t rows, int32_t k, int32_t experts,
                  const ExpertOrder& order) {
  Launch(device, SortKernel, {{static_cast<unsigned>(experts)}, {kThreads}, kWarps * sizeof(int)},
         ids, rows * k, k, order);
}

}  // namespace pregate::cuda
