// What the shim (shim.h) promises to find, found: each fault alone, in either order of threads.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "kernels/cuda/gpu.h"
#include "tests/kernels/shim/shim.h"

namespace pregate {
namespace {

constexpr int kThreads = 128;

__global__ void WaitApart(int*) {
  if (threadIdx.x == 3) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

__global__ void MeetElsewhere(int* out) {
  if (threadIdx.x < 3) {
    __syncwarp();
  } else {
    out[0] = __shfl_sync(kAllLanes, 1, 0);
  }
}

__global__ void WriteOwnArray(int* out, int count) {
  volatile int own[8];
  for (int i = 0; i < count; ++i) {
    own[i] = i;
    if (i == 4) __syncthreads();
  }
  out[threadIdx.x] = own[4];
}

__global__ void WriteShared(int* out, int shift) {
  auto* const shared = reinterpret_cast<int*>(SharedMemory());
  shared[threadIdx.x + static_cast<unsigned>(shift)] = 4;
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x];
}

// The last warp leaves without coming to the barrier; each lane adds what its neighbours have.
__global__ void AddNeighbours(int* out) {
  auto* const shared = reinterpret_cast<int*>(SharedMemory());
  const unsigned index = threadIdx.x;
  shared[index] = static_cast<int>(index);
  if (index + kWarp >= blockDim.x) return;
  __syncthreads();
  const int next = shared[index + 1];
  out[index] = next + __shfl_xor_sync(kAllLanes, next, 1);
}

class ShimGuardsTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    SetShimOrder(GetParam());
    device_ = MakeShimDevice();
    memory_ = *device_->Allocate(kThreads * sizeof(int));
    out_ = static_cast<int*>(memory_.data());
  }
  Grid OfThreads(unsigned threads) const { return {dim3(2), dim3(threads), threads * sizeof(int)}; }

  std::unique_ptr<GpuDevice> device_;
  DeviceBuffer memory_;
  int* out_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Orders, ShimGuardsTest, testing::Bool());

TEST_P(ShimGuardsTest, ThreadsThatCannotGoOnAreNamed) {
  EXPECT_DEATH(Launch(*device_, WaitApart, OfThreads(kThreads), out_),
               "no thread of the block can go on(.|\n)*thread 3: __syncthreads");
  EXPECT_DEATH(Launch(*device_, MeetElsewhere, OfThreads(kThreads), out_),
               "lanes of a warp meet at");
}

TEST_P(ShimGuardsTest, MemoryThatIsNotTheirs) {
  Launch(*device_, WriteOwnArray, OfThreads(kThreads), out_, 8);
  EXPECT_DEATH(Launch(*device_, WriteOwnArray, OfThreads(kThreads), out_, 9),
               "stack-buffer-overflow");
  Launch(*device_, WriteShared, OfThreads(kThreads), out_, 0);
  EXPECT_DEATH(Launch(*device_, WriteShared, OfThreads(kThreads), out_, 1), "heap-buffer-overflow");
  EXPECT_DEATH(*out_ = 1, "use-after-poison");  // by the host
}

// Threads serve blocks of any size one after the other.
TEST_P(ShimGuardsTest, BlocksOfAnySizeInTurn) {
  for (const unsigned threads : {128u, 64u, 96u, 128u, 64u}) {
    Launch(*device_, AddNeighbours, OfThreads(threads), out_);
    std::vector<int> got(threads - kWarp);
    device_->CopyToHost(got.data(), out_, got.size() * sizeof(int));
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i], static_cast<int>(i + 1 + (i ^ 1) + 1)) << i << " of " << threads;
    }
  }
}

}  // namespace
}  // namespace pregate
