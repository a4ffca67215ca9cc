// Experts between a device's memory, the host's and a disk: what kernels read is what was saved, in
// whatever order units come and go, though copies are as late as they may be; no copy goes over
// what kernels may still read, and what cannot be read is never taken for loaded.
#include "engine/model/device_expert_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/model/distant_device.h"
#include "tests/model/fake_direct_file.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr int kUnits = 5, kLayers = 3;
constexpr int64_t kSlot = 12288;  // of the largest piece
const std::vector<std::vector<int64_t>> kPieces = {
    {5000, 4096, 12000}, {1, 8192, 7000}, {0, 12288, 4097}, {12288, 12288, 12288}, {100, 200, 300}};

char Pattern(int unit, int layer, int64_t i) {
  return static_cast<char>(unit * 71 + layer * 31 + i * 7 + i / 251);
}

class DeviceExpertStoreTest : public testing::Test {
 protected:
  // `units` of slots on the device; host_bytes as ExpertMemory has it.
  void Make(int units, int64_t host_bytes) {
    const auto make_file = [this]() -> absl::StatusOr<std::unique_ptr<DirectFile>> {
      auto file = std::make_unique<FakeFile>();
      file_ = file.get();
      return file;
    };
    auto made = MakeDeviceExpertStore(kPieces, {units * kLayers * kSlot, "", host_bytes}, make_file,
                                      &device_);
    ASSERT_TRUE(made.ok()) << made.status();
    store_ = *std::move(made);
    for (int unit = 0; unit < kUnits; ++unit) {
      for (int layer = 0; layer < kLayers; ++layer) {
        char* const data = static_cast<char*>(store_->Address(unit, layer));
        for (int64_t i = 0; i < kPieces[unit][layer]; ++i) data[i] = Pattern(unit, layer, i);
        ASSERT_TRUE(store_->Save(unit, layer).ok());
      }
    }
    if (file_ != nullptr) file_->TakeOffsets();
  }

  // Runs a kernel that reads a piece: whether it has read what was saved.
  bool Read(int unit, int layer) {
    const absl::StatusOr<const char*> data = store_->Await(unit, layer);
    if (!data.ok()) return false;
    device_.copy_lane()->NoteReader(*data);
    for (int64_t i = 0; i < kPieces[unit][layer]; ++i) {
      if ((*data)[i] != Pattern(unit, layer, i)) return false;
    }
    return true;
  }
  // A step that needs all these.
  void RunStep(const std::vector<int>& units) {
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const int unit : units) EXPECT_TRUE(Read(unit, layer)) << unit << " " << layer;
      store_->LayerRan(layer);
    }
    store_->FinishStep();
  }
  void Step(const std::vector<int32_t>& loads, const std::vector<int32_t>& streamed, int window,
            const std::vector<int>& units) {
    BatchPlan plan;
    plan.loads_now = loads;
    plan.streamed_units = streamed;
    plan.stream_layers = window;
    store_->Start(plan);
    RunStep(units);
  }
  static int64_t OffsetOf(int unit, int layer) { return (unit * kLayers + layer) * kSlot; }

  DistantDevice device_{1};
  FakeFile* file_ = nullptr;
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(DeviceExpertStoreTest, UnitsComeFromTheHostsMemory) {
  Make(2, 0);
  EXPECT_EQ(file_, nullptr);
  EXPECT_EQ(store_->method(), "memory");
  EXPECT_EQ(store_->host_cache_bytes(), 0);
  EXPECT_EQ(store_->unit_bytes(0), kLayers * kSlot);
  for (int round = 0; round < 60; ++round) {
    const int a = round % kUnits, b = (round + 2) % kUnits;
    Step({a, b}, {}, 0, {a, b});
    RunStep({b, a});  // they stay
    store_->Evict(a);
    store_->Evict(b);
    EXPECT_FALSE(store_->Loaded(a));
  }
}

TEST_F(DeviceExpertStoreTest, MoreThanFitIsStreamed) {
  Make(3, 0);  // 9 slots: one unit stays, 3 pass in a window of 2
  Step({0}, {1, 2, 3}, 2, {0, 1, 2, 3});
  for (int round = 0; round < 20; ++round) {
    Step({}, {1, 2, 3}, 2, {3, 0, 1, 2});
    Step({}, {4, 1}, 3, {1, 4, 0});
    EXPECT_FALSE(store_->Loaded(1));
  }
  EXPECT_TRUE(store_->Loaded(0));
}

// Copies that are under way when a unit goes come before all that its slots are given to.
TEST_F(DeviceExpertStoreTest, LoadsThatAreCalledOffLeaveNothing) {
  Make(2, 0);
  for (int round = 0; round < 40; ++round) {
    store_->Load(0, true);
    store_->Load(1, round % 2 == 0);
    if (round % 3 == 0) {
      EXPECT_TRUE(Read(0, 0));
    }
    if (round % 4 == 0) absl::SleepFor(absl::Milliseconds(1));
    store_->Evict(0);
    store_->Evict(1);
    EXPECT_FALSE(store_->Loaded(0));
    EXPECT_TRUE(store_->TakeEndings().empty());
    Step({2, 3}, {}, 0, {2, 3});
    store_->Evict(2);
    store_->Evict(3);
    store_->TakeEndings();
  }
}

TEST_F(DeviceExpertStoreTest, AStepThatEndsEarlyLeavesNothingStreamed) {
  Make(2, 0);
  for (int round = 0; round < 20; ++round) {
    store_->Stream({0, 1, 2}, 2);
    EXPECT_TRUE(Read(0, 0));
    if (round % 2 == 0) {
      EXPECT_TRUE(Read(1, 0));
    }
    store_->FinishStep();
    Step({3, 4}, {}, 0, {3, 4});
    store_->Evict(3);
    store_->Evict(4);
  }
}

TEST_F(DeviceExpertStoreTest, EndingsSayWhenAllIsThere) {
  Make(2, 0);
  Step({1}, {}, 0, {1});
  while (!store_->Loaded(1)) absl::SleepFor(absl::Milliseconds(1));
  const std::vector<ExpertStore::Ending> endings = store_->TakeEndings();
  ASSERT_EQ(endings.size(), 1u);
  EXPECT_EQ(endings[0].unit, 1);
  EXPECT_TRUE(endings[0].ok);
  EXPECT_GT(endings[0].reading, absl::ZeroDuration());
  EXPECT_TRUE(store_->TakeEndings().empty());
  // Of what was streamed as well, though it has gone.
  Step({}, {2, 3}, 1, {2, 3});
  EXPECT_EQ(store_->TakeEndings().size(), 2u);
}

TEST_F(DeviceExpertStoreTest, StallsAreTheLanes) {
  Make(2, 0);
  store_->Load(0, true);
  EXPECT_TRUE(Read(0, 0));
  const ExpertStore::Stall stall = store_->FinishStep();
  EXPECT_GT(stall.time, absl::ZeroDuration());
  EXPECT_EQ(stall.copying, stall.time);
  while (!store_->Loaded(0)) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(Read(0, 2));  // it is there: nobody waits
  EXPECT_EQ(store_->FinishStep().time, absl::ZeroDuration());
}

// --- With a disk behind the host's memory. ---

constexpr int64_t kPassing = 3 * kSlot;  // what is not kept passes through it
constexpr int64_t kUnit = kLayers * kSlot;

TEST_F(DeviceExpertStoreTest, WhatIsNotKeptPassesThrough) {
  Make(2, kPassing);
  ASSERT_NE(file_, nullptr);
  EXPECT_EQ(store_->method(), "fake");
  EXPECT_EQ(store_->host_cache_bytes(), 0);
  for (int round = 0; round < 30; ++round) {
    const int a = round % kUnits, b = (round + 1) % kUnits;
    Step({a, b}, {}, 0, {a, b});
    EXPECT_EQ(file_->TakeOffsets().size(), 2u * kLayers);
    store_->Evict(a);
    store_->Evict(b);
    Step({}, {0, 1, 2}, 2, {2, 1, 0});
    EXPECT_EQ(file_->TakeOffsets().size(), 3u * kLayers);
  }
}

TEST_F(DeviceExpertStoreTest, WhatIsKeptIsReadOnce) {
  Make(2, kPassing + 2 * kUnit);
  EXPECT_EQ(store_->host_cache_bytes(), 2 * kUnit);
  store_->KeepInHost({}, {0, 1});
  const auto come_and_go = [&](int unit) {
    Step({unit}, {}, 0, {unit});
    store_->Evict(unit);
    return file_->TakeOffsets().size();
  };
  EXPECT_EQ(come_and_go(0), 3u);
  EXPECT_EQ(come_and_go(1), 3u);
  EXPECT_EQ(come_and_go(2), 3u);
  for (int round = 0; round < 5; ++round) {
    EXPECT_EQ(come_and_go(0), 0u);
    EXPECT_EQ(come_and_go(2), 3u);
    EXPECT_EQ(come_and_go(1), 0u);
  }
  store_->KeepInHost({0}, {2});  // from its next load on
  EXPECT_EQ(come_and_go(2), 3u);
  EXPECT_EQ(come_and_go(2), 0u);
  EXPECT_EQ(come_and_go(0), 3u);
  EXPECT_EQ(come_and_go(0), 3u);
  EXPECT_EQ(come_and_go(1), 0u);
}

// A unit's place in the host's memory goes while it is on its way through it.
TEST_F(DeviceExpertStoreTest, PlacesChangeUnderLoads) {
  Make(3, kPassing + 2 * kUnit);
  for (int round = 0; round < 60; ++round) {
    const int a = round % kUnits, b = (round + 1) % kUnits, c = (round + 3) % kUnits;
    store_->KeepInHost({}, {a, b});
    store_->Load(a, true);
    store_->Load(b, false);
    if (round % 2 == 0) {
      EXPECT_TRUE(Read(a, 0));
    }
    store_->KeepInHost({a, b}, {c});
    store_->Load(c, true);
    RunStep({c, a, b});
    store_->KeepInHost({c}, {});
    for (const int unit : {a, b, c}) store_->Evict(unit);
  }
}

TEST_F(DeviceExpertStoreTest, AFailedReadIsNeverLoaded) {
  for (const int64_t host_bytes : {kPassing, kPassing + 2 * kUnit}) {
    Make(2, host_bytes);
    if (host_bytes > kPassing) store_->KeepInHost({}, {0});
    file_->FailAt(OffsetOf(0, 1));
    store_->Load(0, true);
    EXPECT_TRUE(Read(0, 0));
    EXPECT_EQ(store_->Await(0, 1).status().code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(store_->Await(0, 2).status().code(), absl::StatusCode::kDataLoss);
    EXPECT_FALSE(store_->Loaded(0));
    const std::vector<ExpertStore::Ending> endings = store_->TakeEndings();
    ASSERT_EQ(endings.size(), 1u);
    EXPECT_EQ(endings[0].unit, 0);
    EXPECT_FALSE(endings[0].ok);
    Step({1}, {}, 0, {1});  // others go on
    // And a step that streams it ends.
    store_->Evict(0);
    store_->Stream({0, 2}, 1);
    EXPECT_TRUE(Read(0, 0));
    EXPECT_TRUE(Read(2, 0));
    store_->LayerRan(0);
    EXPECT_EQ(store_->Await(0, 1).status().code(), absl::StatusCode::kDataLoss);
    store_->FinishStep();
    // The unit can be had once its file is readable again.
    file_->FailAt(-1);
    Step({0}, {}, 0, {0, 1});
  }
}

TEST_F(DeviceExpertStoreTest, SaysWhatItNeeds) {
  const auto no_file = []() -> absl::StatusOr<std::unique_ptr<DirectFile>> {
    return absl::FailedPreconditionError("expert-cache-dir: no");
  };
  const auto error = [&](const ExpertMemory& memory, const MakeFile& make_file, Device* device) {
    return MakeDeviceExpertStore(kPieces, memory, make_file, device).status();
  };
  EXPECT_EQ(error({kUnit - 1, "", 0}, no_file, &device_),
            absl::InvalidArgumentError(
                "expert-cache-memory: must hold the largest expert, 36864 bytes; got 36863"));
  EXPECT_EQ(error({kUnit, "", 1}, no_file, &device_).code(), absl::StatusCode::kFailedPrecondition);
  const auto file = []() -> absl::StatusOr<std::unique_ptr<DirectFile>> {
    return std::make_unique<FakeFile>();
  };
  EXPECT_EQ(error({kUnit, "", kPassing - 1}, file, &device_),
            absl::InvalidArgumentError("expert-host-memory: must hold 3 layers of an expert, 36864 "
                                       "bytes; got 36863"));
  EXPECT_EQ(error({kUnit, "", kUnits * kUnit}, no_file, &device_), absl::OkStatus());
  const auto cpu = MakeCpuDevice(1);
  EXPECT_EQ(error({kUnit, "", 0}, no_file, cpu.get()).code(), absl::StatusCode::kUnimplemented);
  device_.set_has_room(false);
  EXPECT_EQ(error({kUnit, "", 0}, no_file, &device_).code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace pregate
