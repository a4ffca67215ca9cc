// Ranks that are GPUs, over a runtime and a library that need none (fake_cudart, fake_nccl): one
// thread issues the work of all ranks, which runs when somebody waits for it.
#include "kernels/cuda/nccl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "tests/kernels/cuda_device_under_test.h"

namespace pregate {
namespace {

using testing::HasSubstr;

constexpr int kRanks = 3;

// What the test's environment has put in NCCL's place (tests/kernels/CMakeLists.txt).
std::string Installed() {
  const char* const what = std::getenv("FAKE_NCCL");
  return what == nullptr ? "" : what;
}

class NcclTest : public testing::Test {
 protected:
  void SetUp() override {
    if (Installed() != "fake") GTEST_SKIP() << "fake_nccl is not in NCCL's place";
    for (int r = 0; r < kRanks; ++r) {
      auto device = CudaDevice::Open(1, r);
      ASSERT_TRUE(device.ok()) << device.status();
      devices_.push_back(*std::move(device));
    }
    auto ranks = MakeNcclCommunicators(kRanks);
    ASSERT_TRUE(ranks.ok()) << ranks.status();
    ranks_ = *std::move(ranks);
    ASSERT_EQ(ranks_.size(), size_t{kRanks});
  }
  void TearDown() override {
    buffers_.clear();
    devices_.clear();  // before what connects them
  }

  // Floats on a rank's device.
  float* Upload(size_t rank, const std::vector<float>& values) {
    buffers_.push_back(*devices_[rank]->Allocate(values.size() * sizeof(float)));
    void* const data = buffers_.back().data();
    devices_[rank]->CopyToDevice(data, values.data(), values.size() * sizeof(float));
    return static_cast<float*>(data);
  }
  std::vector<float> Read(size_t rank, const float* data, size_t count) {
    std::vector<float> values(count);
    devices_[rank]->CopyToHost(values.data(), data, count * sizeof(float));
    return values;
  }
  static Tensor View(float* data, int64_t rows, int64_t cols) {
    return MakeView(static_cast<void*>(data), DType::kF32, rows, cols);
  }

  std::vector<std::unique_ptr<Communicator>> ranks_;
  std::vector<std::unique_ptr<CudaDevice>> devices_;
  std::vector<DeviceBuffer> buffers_;
};

TEST_F(NcclTest, KnowsItsRanks) {
  for (int r = 0; r < kRanks; ++r) {
    EXPECT_EQ(ranks_[static_cast<size_t>(r)]->rank(), r);
    EXPECT_EQ(ranks_[static_cast<size_t>(r)]->size(), kRanks);
  }
}

TEST_F(NcclTest, SumsBehindWhatWasIssued) {
  for (const int64_t count : {1, 3, 1000}) {
    std::vector<float*> x;
    for (size_t r = 0; r < kRanks; ++r) {
      const auto elements = static_cast<size_t>(count);
      x.push_back(Upload(r, std::vector<float>(elements, static_cast<float>(1 + r))));
      const float* const one = Upload(r, std::vector<float>(elements, 1.0f));
      IssueAdd(*devices_[r], x[r], one, x[r], count);
      ranks_[r]->AllReduceSum(*devices_[r], View(x[r], 1, count));
      IssueAdd(*devices_[r], x[r], one, x[r], count);
    }
    for (const size_t r : {2u, 0u, 1u}) {  // whoever waits first
      EXPECT_THAT(Read(r, x[r], static_cast<size_t>(count)), testing::Each(2 + 3 + 4 + 1));
    }
  }
}

TEST_F(NcclTest, ColumnsComeTogetherAtTheFirst) {
  const std::vector<int64_t> begin = {0, 2, 3, 7};
  for (const int64_t rows : {1, 5}) {
    std::vector<float> want;
    std::vector<std::vector<float>> parts(kRanks);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t column = 0; column < begin.back(); ++column) {
        want.push_back(static_cast<float>(100 * i + column));
        const size_t owner = column < 2 ? 0 : column < 3 ? 1 : 2;
        // At rank 0 the whole matrix is there, the others' columns to come.
        if (owner > 0) parts[owner].push_back(want.back());
        parts[0].push_back(owner == 0 ? want.back() : -1.0f);
      }
    }
    std::vector<float*> x;
    for (size_t r = 0; r < kRanks; ++r) {
      x.push_back(Upload(r, parts[r]));
      const int64_t own = r == 0 ? begin.back() : begin[r + 1] - begin[r];
      ranks_[r]->GatherColumns(*devices_[r], View(x[r], rows, own), begin);
    }
    EXPECT_EQ(Read(0, x[0], want.size()), want);
    EXPECT_EQ(Read(2, x[2], parts[2].size()), parts[2]);
  }
}

// A step's collectives are part of its graph.
TEST_F(NcclTest, GraphsHoldThem) {
  std::vector<float*> x, logits;
  std::vector<int> bodies(kRanks, 0);
  const std::vector<int64_t> begin = {0, 1, 2, 3};
  for (size_t r = 0; r < kRanks; ++r) {
    x.push_back(Upload(r, {static_cast<float>(r), 1.0f}));
    logits.push_back(Upload(r, std::vector<float>(r == 0 ? 3 : 1, -1.0f)));
  }
  std::vector<float> want = {0, 1, 2};
  for (int step = 0; step < 5; ++step) {
    for (size_t r = 0; r < kRanks; ++r) {
      devices_[r]->Replay(9, [&] {
        ++bodies[r];
        IssueAdd(*devices_[r], x[r], x[r] + 1, logits[r], 1);
        ranks_[r]->GatherColumns(*devices_[r], View(logits[r], 1, r == 0 ? 3 : 1), begin);
        ranks_[r]->AllReduceSum(*devices_[r], View(x[r], 1, 1));
      });
    }
    // What was there by rank, plus 1; the sum is everybody's next.
    EXPECT_THAT(Read(0, logits[0], 3), testing::ElementsAre(want[0] + 1, want[1] + 1, want[2] + 1));
    want.assign(3, want[0] + want[1] + want[2]);
    for (size_t r = 0; r < kRanks; ++r) EXPECT_EQ(Read(r, x[r], 1)[0], want[0]) << step;
  }
  EXPECT_THAT(bodies, testing::Each(2));
}

TEST(NcclLibraryTest, SaysWhatIsWrongWithIt) {
  if (Installed() != "fake") GTEST_SKIP() << "fake_nccl is not in NCCL's place";
  setenv("FAKE_NCCL_VERSION", "20906", 1);
  auto ranks = MakeNcclCommunicators(2);
  EXPECT_EQ(ranks.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ranks.status().message(),
            "tensor-parallel-size: NCCL must be of version 21000 (2.10) or later; got 20906");
  unsetenv("FAKE_NCCL_VERSION");
  setenv("FAKE_NCCL_FAILS", "1", 1);
  ranks = MakeNcclCommunicators(2);
  EXPECT_EQ(ranks.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ranks.status().message(),
            "tensor-parallel-size: NCCL cannot connect 2 GPUs: an error of NCCL");
  unsetenv("FAKE_NCCL_FAILS");
}

TEST(NcclLibraryTest, SaysThatItIsNotInstalled) {
  if (Installed() != "none") GTEST_SKIP() << "NCCL's place is not empty";
  const auto ranks = MakeNcclCommunicators(2);
  EXPECT_EQ(ranks.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(ranks.status().message()),
              HasSubstr("tensor-parallel-size: more than one GPU needs NCCL: "));
  EXPECT_THAT(std::string(ranks.status().message()), HasSubstr("libnccl.so.2"));
}

}  // namespace
}  // namespace pregate
