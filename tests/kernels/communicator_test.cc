// Ranks that are threads: sums, gathered columns, and the threads themselves.
#include "kernels/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/rank_thread.h"

namespace pregate {
namespace {

// A number that says where it is from; sums of several depend on their order.
float Number(int rank, int64_t round, int64_t i) {
  const uint64_t bits =
      (static_cast<uint64_t>(rank) * 1000003 + static_cast<uint64_t>(round)) * 0x9e3779b97f4a7c15u ^
      static_cast<uint64_t>(i) * 0xbf58476d1ce4e5b9u;
  return static_cast<float>(static_cast<int32_t>(bits * 0x94d049bb133111ebu >> 40) - (1 << 23)) /
         static_cast<float>(1 << 16);
}

// Runs body(communicator, device) on a thread for each rank, with `threads` of its own.
void OnRanks(int size, int threads, bool may_spin,
             const std::function<void(Communicator&, Device&)>& body) {
  const auto ranks = MakeHostCommunicators(size, may_spin);
  std::vector<std::thread> running;
  for (const auto& rank : ranks) {
    running.emplace_back([&body, &rank, threads] {
      const std::unique_ptr<Device> device = MakeCpuDevice(threads);
      body(*rank, *device);
    });
  }
  for (std::thread& thread : running) thread.join();
}

class HostCommunicatorTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, HostCommunicatorTest, testing::Values(1, 2, 3, 4, 7));

// Bit for bit the sum in the order of ranks, on every rank, whatever the number of elements.
TEST_P(HostCommunicatorTest, SumsInTheOrderOfRanks) {
  const int size = GetParam();
  for (const int threads : {1, 2}) {
    std::vector<int> wrong(static_cast<size_t>(size), 0);
    OnRanks(size, threads, threads == 1, [&](Communicator& rank, Device& device) {
      for (const int64_t count : {1, 2, 3, 5, 64, 1000, 1024, 1025, 2 * 16384 * 7 + 11}) {
        const auto elements = static_cast<size_t>(count);
        std::vector<float> x(elements + 1, -7.0f);
        for (int64_t i = 0; i < count; ++i) {
          x[static_cast<size_t>(i)] = Number(rank.rank(), count, i);
        }
        rank.AllReduceSum(device, MakeView(static_cast<void*>(x.data()), DType::kF32, 1, count));
        int& mine = wrong[static_cast<size_t>(rank.rank())];
        for (int64_t i = 0; i < count; ++i) {
          float sum = Number(0, count, i);
          for (int r = 1; r < rank.size(); ++r) sum += Number(r, count, i);
          mine += x[static_cast<size_t>(i)] != sum;
        }
        mine += x[elements] != -7.0f;
      }
    });
    EXPECT_THAT(wrong, testing::Each(0));
  }
}

// Many rounds one after the other, of both kinds: no rank runs ahead into memory that others read.
TEST_P(HostCommunicatorTest, RoundsFollowEachOther) {
  constexpr int kRounds = 150;
  const int size = GetParam();
  for (const bool may_spin : {false, true}) {
    std::vector<int> wrong(static_cast<size_t>(size), 0);
    OnRanks(size, 1, may_spin, [&](Communicator& rank, Device& device) {
      const int r = rank.rank();
      std::vector<int64_t> begin;
      for (int i = 0; i <= rank.size(); ++i) begin.push_back(i * (i + 1) / 2);  // 0, 1, 3, 6, ...
      std::vector<float> x(5), columns(static_cast<size_t>(2 * begin.back()));
      for (int round = 0; round < kRounds; ++round) {
        for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(round * (r + 1));
        rank.AllReduceSum(device, MakeView(static_cast<void*>(x.data()), DType::kF32, 5, 1));
        const int all = rank.size() * (rank.size() + 1) / 2;
        for (const float value : x) {
          wrong[static_cast<size_t>(r)] += value != static_cast<float>(round * all);
        }
        const int64_t own = r == 0 ? begin.back() : begin[r + 1] - begin[r];
        std::fill(columns.begin(), columns.end(), static_cast<float>(1000 * r + round));
        rank.GatherColumns(
            device, MakeView(static_cast<void*>(columns.data()), DType::kF32, 2, own), begin);
        for (size_t i = 0; r == 0 && i < columns.size(); ++i) {
          const auto column = static_cast<int64_t>(i) % begin.back();
          const auto owner = std::upper_bound(begin.begin(), begin.end(), column) - begin.begin();
          wrong[0] += columns[i] != static_cast<float>(1000 * (owner - 1) + round);
        }
      }
    });
    EXPECT_THAT(wrong, testing::Each(0));
  }
}

TEST(RankThreadTest, MakesCallsOneByOneOnOneThread) {
  for (const bool may_spin : {false, true}) {
    std::vector<std::thread::id> threads;
    {
      RankThread thread(may_spin);
      thread.Wait();  // nothing to wait for
      for (int i = 0; i < 100; ++i) {
        thread.Start([&threads] { threads.push_back(std::this_thread::get_id()); });
        thread.Wait();
      }
      EXPECT_EQ(threads.size(), 100u);
      thread.Start([&threads] { threads.push_back(std::this_thread::get_id()); });
    }  // ends once the call has
    EXPECT_EQ(threads.size(), 101u);
    EXPECT_THAT(threads, testing::Each(threads[0]));
    EXPECT_NE(threads[0], std::this_thread::get_id());
  }
}

}  // namespace
}  // namespace pregate
