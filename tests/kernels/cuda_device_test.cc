// The CUDA device: copies, memory, and graphs that stand for what was issued.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/copy_lane.h"
#include "kernels/cuda/blas.h"
#include "kernels/tensor.h"
#include "tests/kernels/cuda_device_under_test.h"

namespace pregate {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

constexpr size_t kPiece = size_t{4} << 20;  // of staging memory

class CudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Device>> device = OpenDeviceUnderTest();
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
  }

  // Floats in device memory.
  DeviceBuffer Upload(const std::vector<float>& values) {
    DeviceBuffer buffer = *device_->Allocate(values.size() * sizeof(float));
    device_->CopyToDevice(buffer.data(), values.data(), buffer.size());
    return buffer;
  }
  std::vector<float> Read(const void* data, size_t count) {
    std::vector<float> values(count);
    device_->CopyToHost(values.data(), data, count * sizeof(float));
    return values;
  }
  // What a step does with one key: sum += one.
  struct Counter {
    DeviceBuffer sum, one;
    int bodies = 0;
  };
  Counter MakeCounter() { return {Upload({0, 10, 20, 30}), Upload({1, 1, 1, 1})}; }
  void Step(uint64_t key, Counter& c) {
    device_->Replay(key, [&] {
      ++c.bodies;
      auto* const sum = static_cast<float*>(c.sum.data());
      IssueAdd(*device_, sum, static_cast<const float*>(c.one.data()), sum, 4);
    });
  }
  std::vector<float> SumOf(const Counter& c) { return Read(c.sum.data(), 4); }

  std::unique_ptr<Device> device_;
};

TEST_F(CudaDeviceTest, SaysWhatItIs) {
  EXPECT_THAT(std::string(device_->name()), AllOf(HasSubstr("sm_"), HasSubstr(" GiB")));
  EXPECT_FALSE(device_->host_memory());
  EXPECT_GT(AsGpu(*device_).multiprocessors(), 0);
  EXPECT_GE(AsGpu(*device_).max_shared_bytes(), 96u << 10);
  std::vector<int> seen(1000);
  device_->ParallelFor(1000, 7, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  EXPECT_THAT(seen, testing::Each(1));
}

TEST_F(CudaDeviceTest, CopiesOfAnySizeComeBack) {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{1000}, kPiece - 1, kPiece,
                             kPiece + 1, 3 * kPiece + 17, 20 * kPiece + 5}) {
    auto buffer = device_->Allocate(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_NE(buffer->data(), nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    std::vector<uint8_t> in(bytes), out(bytes, 0xEE);
    // Of no period: each piece differs from the others.
    for (size_t i = 0; i < bytes; ++i) in[i] = static_cast<uint8_t>(i * 2654435761u >> 16);
    const std::vector<uint8_t> kept = in;
    device_->CopyToDevice(buffer->data(), in.data(), bytes);
    std::fill(in.begin(), in.end(), 0);  // the source is the caller's again
    device_->CopyToHost(out.data(), buffer->data(), bytes);
    EXPECT_TRUE(out == kept) << bytes;
  }
}

// Small copies go round the ring several times while the device has not taken any of them.
TEST_F(CudaDeviceTest, ManySmallCopiesStayInOrder) {
  constexpr int kCopies = 5000, kFloats = 5000;
  DeviceBuffer last = *device_->Allocate(kFloats * sizeof(float));
  DeviceBuffer all = *device_->Allocate(kCopies * sizeof(float));
  std::vector<float> values(kFloats);
  for (int i = 0; i < kCopies; ++i) {
    std::iota(values.begin(), values.end(), static_cast<float>(i));
    device_->CopyToDevice(last.data(), values.data(), last.size());
    device_->CopyToDevice(static_cast<float*>(all.data()) + i, values.data(), sizeof(float));
  }
  EXPECT_EQ(Read(last.data(), kFloats), values);
  std::vector<float> expected(kCopies);
  std::iota(expected.begin(), expected.end(), 0.0f);
  EXPECT_EQ(Read(all.data(), kCopies), expected);
}

TEST_F(CudaDeviceTest, SaysWhenMemoryDoesNotFit) {
  const auto failed = device_->Allocate(size_t{1} << 50);
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(failed.status().message()),
              AllOf(HasSubstr("device: 1125899906842624 bytes do not fit; "), HasSubstr(" of "),
                    EndsWith(" are free")));
  EXPECT_TRUE(device_->Allocate(1000).ok());  // that was not an error that stays
}

TEST_F(CudaDeviceTest, ResidentListsAreKeptOnce) {
  GpuDevice& gpu = AsGpu(*device_);
  EXPECT_EQ(gpu.Resident(nullptr, 0), nullptr);
  const std::vector<int32_t> a = {1, 2, 3}, same = {1, 2, 3}, longer = {1, 2, 3, 4};
  const int32_t* const first = gpu.ResidentList(absl::MakeConstSpan(a));
  EXPECT_EQ(gpu.ResidentList(absl::MakeConstSpan(same)), first);
  const int32_t* const other = gpu.ResidentList(absl::MakeConstSpan(longer));
  EXPECT_NE(other, first);
  std::vector<int32_t> read(4);
  device_->CopyToHost(read.data(), other, 16);
  EXPECT_EQ(read, longer);
  device_->CopyToHost(read.data(), first, 12);
  EXPECT_EQ(read, longer);
}

// What was issued with the smaller memory still has it when it runs.
TEST_F(CudaDeviceTest, ScratchGrows) {
  GpuDevice& gpu = AsGpu(*device_);
  const DeviceBuffer a = Upload({1, 2, 3, 4}), out = Upload({0, 0, 0, 0});
  auto* const small = static_cast<float*>(gpu.Scratch(16));
  const auto* const from = static_cast<const float*>(a.data());
  IssueAdd(*device_, from, from, small, 4);
  IssueAdd(*device_, small, from, static_cast<float*>(out.data()), 4);
  EXPECT_EQ(gpu.Scratch(100), small);
  auto* const large = static_cast<char*>(gpu.Scratch(size_t{50} << 20));
  EXPECT_EQ(gpu.Scratch(size_t{60} << 20), large);  // a power of two
  EXPECT_EQ(Read(out.data(), 4), (std::vector<float>{3, 6, 9, 12}));
  device_->CopyToDevice(large + (size_t{60} << 20) - 4, "abc", 4);
  device_->Synchronize();
}

TEST_F(CudaDeviceTest, AGraphStandsForTheBodiesOfAKey) {
  Counter c = MakeCounter(), other = MakeCounter();
  for (int i = 0; i < 5; ++i) Step(7, c);
  EXPECT_EQ(c.bodies, 2);  // once as it is, once to be recorded
  EXPECT_EQ(SumOf(c), (std::vector<float>{5, 15, 25, 35}));
  for (int i = 0; i < 5; ++i) Step(0, c);  // no key: as it is
  EXPECT_EQ(c.bodies, 7);
  for (int i = 0; i < 3; ++i) Step(8, other);
  EXPECT_EQ(other.bodies, 2);
  // What the memory holds may change.
  const std::vector<float> hundred = {100, 100, 100, 100};
  device_->CopyToDevice(c.sum.data(), hundred.data(), 16);
  Step(7, c);
  EXPECT_EQ(SumOf(c), (std::vector<float>{101, 101, 101, 101}));
  EXPECT_EQ(SumOf(other), (std::vector<float>{3, 13, 23, 33}));
}

TEST_F(CudaDeviceTest, TheGraphUsedLeastRecentlyGivesWay) {
  Counter c = MakeCounter();
  for (uint64_t key = 1; key <= 64; ++key) {
    Step(key, c);
    Step(key, c);
  }
  EXPECT_EQ(c.bodies, 128);
  Step(1, c);
  EXPECT_EQ(c.bodies, 128);
  Step(65, c);
  Step(65, c);  // takes the place of 2
  EXPECT_EQ(c.bodies, 130);
  Step(1, c);
  EXPECT_EQ(c.bodies, 130);
  Step(2, c);  // recorded anew
  Step(2, c);
  EXPECT_EQ(c.bodies, 131);
  EXPECT_EQ(SumOf(c)[0], 134);
}

// A body that copies, or makes something on the way, runs each time, and rightly.
TEST_F(CudaDeviceTest, WhatCannotBeAGraphIsNone) {
  Counter c = MakeCounter();
  float value = 0;
  const auto step = [&] {
    device_->Replay(9, [&] {
      ++c.bodies;
      value += 1;
      device_->CopyToDevice(c.one.data(), &value, sizeof(value));
      auto* const sum = static_cast<float*>(c.sum.data());
      IssueAdd(*device_, sum, static_cast<const float*>(c.one.data()), sum, 4);
    });
  };
  step();
  EXPECT_EQ(SumOf(c)[0], 1);
  step();  // recorded in vain, then run
  EXPECT_EQ(c.bodies, 3);
  EXPECT_EQ(SumOf(c)[0], 4);
  step();
  EXPECT_EQ(c.bodies, 4);
  EXPECT_EQ(SumOf(c)[0], 8);

  int bodies = 0;
  const int32_t* list = nullptr;
  for (int32_t i = 0; i < 4; ++i) {
    device_->Replay(10, [&] {
      const int32_t content[] = {1000, ++bodies / 2};  // not seen before, at first
      list = AsGpu(*device_).ResidentList(absl::MakeConstSpan(content));
    });
    EXPECT_NE(list, nullptr);
  }
  int32_t read[2] = {};
  device_->CopyToHost(read, list, sizeof(read));
  EXPECT_EQ(read[0], 1000);
  EXPECT_EQ(read[1], bodies / 2);
}

// A graph keeps the scratch that it was recorded with.
TEST_F(CudaDeviceTest, ScratchThatAGraphHoldsStays) {
  const DeviceBuffer a = Upload({1, 2, 3, 4}), out = Upload({0, 0, 0, 0});
  const auto step = [&](uint64_t key, size_t bytes) {
    device_->Replay(key, [&, bytes] {
      auto* const scratch = static_cast<float*>(AsGpu(*device_).Scratch(bytes));
      const auto* const from = static_cast<const float*>(a.data());
      IssueAdd(*device_, from, from, scratch, 4);
      IssueAdd(*device_, scratch, from, static_cast<float*>(out.data()), 4);
    });
  };
  for (int i = 0; i < 3; ++i) step(1, 16);
  for (int i = 0; i < 3; ++i) step(2, size_t{9} << 20);
  const std::vector<float> zeros(4);
  for (int i = 0; i < 3; ++i) {
    device_->CopyToDevice(out.data(), zeros.data(), 16);
    step(1, 16);
    EXPECT_EQ(Read(out.data(), 4), (std::vector<float>{3, 6, 9, 12}));
  }
}

// --- Copies beside the kernels. ---

class CudaCopyLaneTest : public CudaDeviceTest {
 protected:
  static constexpr int64_t kFloats = 1 << 18;
  static constexpr size_t kBytes = kFloats * sizeof(float);

  void SetUp() override {
    CudaDeviceTest::SetUp();
    if (device_ == nullptr) return;
    lane_ = *device_->MakeCopyLane();
    host_ = *lane_->AllocateHost(kCopies * kBytes);
    for (int64_t i = 0; i < kCopies * kFloats; ++i) {
      reinterpret_cast<float*>(host_.get())[i] = static_cast<float>(i / kFloats + 1);
    }
    zeros_ = Upload(std::vector<float>(kFloats));
    slot_ = Upload(std::vector<float>(kFloats));
    device_->Synchronize();
  }
  void TearDown() override { lane_ = nullptr; }  // before what it copies
  // Starts to fill the slot with `copy` + 1.
  CopyLane::Moment Fill(int copy, const CopyLane::Moment& after) {
    return lane_->Start(slot_.data(), host_.get() + copy * kBytes, kBytes, after);
  }
  // A kernel that copies the slot, and what it has found there.
  DeviceBuffer IssueRead() {
    DeviceBuffer out = *device_->Allocate(kBytes);
    IssueAdd(*device_, static_cast<const float*>(slot_.data()),
             static_cast<const float*>(zeros_.data()), static_cast<float*>(out.data()), kFloats);
    return out;
  }
  float Found(const DeviceBuffer& out) {
    const std::vector<float> values = Read(out.data(), kFloats);
    for (const float value : values) EXPECT_EQ(value, values[0]);
    return values[0];
  }

  static constexpr int kCopies = 16;
  std::unique_ptr<CopyLane> lane_;
  CopyLane::HostMemory host_;
  DeviceBuffer zeros_, slot_;
};

// One slot for all of them: each copy comes after the kernel that reads the one before, and before
// its own.
TEST_F(CudaCopyLaneTest, KernelsAndCopiesTakeTurns) {
  std::vector<DeviceBuffer> outs;
  CopyLane::Moment read;
  for (int copy = 0; copy < kCopies; ++copy) {
    const CopyLane::Moment since = lane_->Kernels();
    lane_->Hold(since, Fill(copy, read));
    outs.push_back(IssueRead());
    read = lane_->Kernels();
  }
  for (int copy = 0; copy < kCopies; ++copy) EXPECT_EQ(Found(outs[copy]), copy + 1);
}

TEST_F(CudaCopyLaneTest, WhatIsNotMadeToWaitIsEarly) {
  if (!RunsLate()) GTEST_SKIP() << "on a GPU it may be either";
  Fill(0, nullptr);
  const DeviceBuffer early = IssueRead();
  EXPECT_EQ(Found(early), 0);  // the copy was not waited for
  const DeviceBuffer late = IssueRead();
  lane_->Await(Fill(1, nullptr));
  EXPECT_EQ(Found(late), 2);  // a copy went over what the kernel should have read
}

TEST_F(CudaCopyLaneTest, TheHostCanWaitForACopy) {
  lane_->Await(Fill(4, nullptr));
  EXPECT_EQ(Found(IssueRead()), 5);
}

TEST_F(CudaCopyLaneTest, PausesOfKernelsAreCounted) {
  EXPECT_EQ(lane_->TakeStall().seconds, 0);
  // Kernels run out, then wait for two copies.
  const CopyLane::Moment since = lane_->Kernels();
  Fill(0, nullptr);
  lane_->Hold(since, Fill(1, nullptr));
  const DeviceBuffer out = IssueRead();
  if (RunsLate()) {
    EXPECT_EQ(lane_->TakeStall().seconds, 0);  // it has not passed
  }
  EXPECT_EQ(Found(out), 2);
  const CopyLane::Stall stall = lane_->TakeStall();
  EXPECT_GT(stall.seconds, 0);
  EXPECT_GT(stall.copying, 0);
  EXPECT_LE(stall.copying, stall.seconds);
  EXPECT_EQ(lane_->TakeStall().seconds, 0);
  // What had been copied before the kernels came to it does not count as copied meanwhile.
  lane_->Await(Fill(2, nullptr));
  const CopyLane::Moment later = lane_->Kernels();
  IssueRead();
  lane_->Hold(later, nullptr);
  device_->Synchronize();
  EXPECT_EQ(lane_->TakeStall().copying, 0);
}

TEST_F(CudaCopyLaneTest, MomentsAreUsedAgain) {
  for (int round = 0; round < 2000; ++round) {
    const CopyLane::Moment copy = Fill(round % kCopies, lane_->Kernels());
    lane_->Hold(lane_->Kernels(), copy);
    if (round % 100 == 0) {
      EXPECT_EQ(Found(IssueRead()), round % kCopies + 1);
      lane_->TakeStall();
    }
  }
}

// By the library, where it is installed: rows apart in memory, alpha, and sums on top of others.
TEST_F(CudaDeviceTest, MultipliesHalves) {
  Blas* const blas = AsGpu(*device_).blas();
  if (blas == nullptr) GTEST_SKIP() << "cuBLASLt is not installed";
  constexpr int64_t kRows = 5, kOutputs = 24, kDepth = 64, kStride = 32;
  std::vector<uint16_t> x(kRows * kDepth), weight(kOutputs * kDepth);
  for (size_t i = 0; i < x.size(); ++i) x[i] = FloatToHalf(static_cast<float>(i % 7) - 3);
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = FloatToHalf(static_cast<float>(i % 5) - 2);
  const auto upload = [&](const std::vector<uint16_t>& values) {
    DeviceBuffer buffer = *device_->Allocate(values.size() * 2);
    device_->CopyToDevice(buffer.data(), values.data(), buffer.size());
    return buffer;
  };
  const DeviceBuffer x_there = upload(x), weight_there = upload(weight);
  const DeviceBuffer out = Upload(std::vector<float>(kRows * kStride, -7));
  HalfProduct product;
  product.x = x_there.data();
  product.weight = weight_there.data();
  product.out = static_cast<float*>(out.data());
  product.out_stride = kStride;
  product.rows = kRows;
  product.outputs = kOutputs;
  product.depth = kDepth;
  product.alpha = 0.5f;
  ASSERT_TRUE(blas->Multiply(product));
  product.accumulate = true;
  ASSERT_TRUE(blas->Multiply(product));
  const std::vector<float> got = Read(out.data(), kRows * kStride);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t n = 0; n < kStride; ++n) {
      float sum = 0;
      for (int64_t k = 0; k < kDepth && n < kOutputs; ++k) {
        sum += HalfToFloat(x[static_cast<size_t>(r * kDepth + k)]) *
               HalfToFloat(weight[static_cast<size_t>(n * kDepth + k)]);
      }
      EXPECT_EQ(got[static_cast<size_t>(r * kStride + n)], n < kOutputs ? sum : -7)
          << r << " " << n;
    }
  }
}

}  // namespace
}  // namespace pregate
