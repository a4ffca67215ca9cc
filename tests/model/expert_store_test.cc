// Experts come and go: what stands in memory is what was saved, whatever the order of loads, and
// what cannot be read is never taken for loaded.
#include "engine/model/expert_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "tests/model/fake_direct_file.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

const std::vector<std::vector<int64_t>> kPieces = {
    {5000, 4096, 12000}, {1, 8192, 700000}, {0, 3 << 20, 4097}};

char Pattern(int unit, int layer, int64_t i) {
  return static_cast<char>(unit * 71 + layer * 31 + i * 7 + i / 251);
}

void SaveAll(ExpertStore& store) {
  for (int unit = 0; unit < 3; ++unit) {
    for (int layer = 0; layer < 3; ++layer) {
      char* data = static_cast<char*>(store.Address(unit, layer));
      for (int64_t i = 0; i < kPieces[unit][layer]; ++i) data[i] = Pattern(unit, layer, i);
      ASSERT_TRUE(store.Save(unit, layer).ok());
    }
  }
}

bool Holds(const ExpertStore& store, int unit, int layer) {
  const char* data = static_cast<const char*>(store.Address(unit, layer));
  for (int64_t i = 0; i < kPieces[unit][layer]; ++i) {
    if (data[i] != Pattern(unit, layer, i)) return false;
  }
  return true;
}

// Bytes of a piece that memory stands behind.
int64_t BytesPresent(const ExpertStore& store, int unit, int layer) {
  const int64_t page = sysconf(_SC_PAGE_SIZE);
  std::vector<unsigned char> present((kPieces[unit][layer] + page - 1) / page);
  mincore(store.Address(unit, layer), kPieces[unit][layer], present.data());
  int64_t bytes = 0;
  for (const unsigned char p : present) bytes += (p & 1) * page;
  return bytes;
}

struct Fixture {
  FakeFile* file;
  std::unique_ptr<ExpertStore> store;
};
Fixture MakeFake() {
  auto file = std::make_unique<FakeFile>();
  FakeFile* fake = file.get();
  auto store = ExpertStore::Create(kPieces, std::move(file));
  SaveAll(**store);
  return {fake, *std::move(store)};
}

class RealFile : public testing::TestWithParam<DirectFile::Access> {};
INSTANTIATE_TEST_SUITE_P(Accesses, RealFile,
                         testing::Values(DirectFile::Access::kBest, DirectFile::Access::kPread,
                                         DirectFile::Access::kCached));

TEST_P(RealFile, LoadsWhatWasSaved) {
  // The system puts large pages together when it likes, also where small pieces have just gone.
  ASSERT_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
  const absl::Cleanup allow = [] { prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0); };
  auto file = DirectFile::Create(testing::TempDir(), GetParam());
  ASSERT_TRUE(file.ok()) << file.status();
  auto made = ExpertStore::Create(kPieces, *std::move(file));
  ASSERT_TRUE(made.ok()) << made.status();
  ExpertStore& store = **made;
  SaveAll(store);
  EXPECT_EQ(BytesPresent(store, 1, 2), 0);
  for (int round = 0; round < 20; ++round) {
    const int unit = round % 3;
    store.Load(unit, round % 2 == 0);
    for (int layer = 0; layer < 3; ++layer) {
      ASSERT_TRUE(store.Await(unit, layer).ok());
      ASSERT_TRUE(Holds(store, unit, layer)) << unit << " " << layer;
    }
    EXPECT_TRUE(store.Loaded(unit));
    store.Evict(unit);
    EXPECT_FALSE(store.Loaded(unit));
    EXPECT_EQ(BytesPresent(store, unit, 1), 0);
  }
  std::printf("method: %s\n", std::string(store.method()).c_str());
}

TEST(ExpertStore, WhatIsNeededNowComesFirstLayerByLayer) {
  Fixture f = MakeFake();
  f.file->SetOpen(false);
  const auto at = [&](int unit, int layer) {
    return static_cast<char*>(f.store->Address(unit, layer)) -
           static_cast<char*>(f.store->Address(0, 0));
  };
  f.store->Load(2, false);
  f.store->Load(0, true);
  f.store->Load(1, true);
  f.file->SetOpen(true);
  for (int unit : {0, 1, 2}) ASSERT_TRUE(f.store->Await(unit, 2).ok());
  std::vector<int64_t> offsets = f.file->TakeOffsets();
  // The lane may have begun with unit 2 before the others were asked for.
  std::vector<int64_t> expected = {at(0, 0), at(1, 0), at(0, 1), at(1, 1), at(0, 2), at(1, 2)};
  for (int layer = offsets[0] == at(2, 0) ? 1 : 0; layer < 3; ++layer) {
    expected.push_back(at(2, layer));
  }
  if (offsets[0] == at(2, 0)) offsets.erase(offsets.begin());
  EXPECT_EQ(offsets, expected);
}

TEST(ExpertStore, ALoadUnderWayIsSharedAndBroughtForward) {
  Fixture f = MakeFake();
  f.file->SetOpen(false);
  f.store->Load(1, false);
  f.store->Load(1, true);
  f.store->Load(1, false);
  f.file->SetOpen(true);
  ASSERT_TRUE(f.store->Await(1, 2).ok());
  EXPECT_EQ(f.file->TakeOffsets().size(), 3u);
  const std::vector<ExpertStore::Ending> endings = f.store->TakeEndings();
  ASSERT_EQ(endings.size(), 1u);
  EXPECT_TRUE(endings[0].ok);
  EXPECT_TRUE(f.store->TakeEndings().empty());
  f.store->Load(1, true);
  ASSERT_TRUE(f.store->Await(1, 2).ok());
  EXPECT_TRUE(f.file->TakeOffsets().empty());
}

TEST(ExpertStore, AFailedReadIsNeverLoaded) {
  Fixture f = MakeFake();
  const int64_t offset =
      static_cast<char*>(f.store->Address(0, 1)) - static_cast<char*>(f.store->Address(0, 0));
  f.file->FailAt(offset);
  f.store->Load(0, true);
  EXPECT_TRUE(f.store->Await(0, 0).ok());
  EXPECT_EQ(f.store->Await(0, 1).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(f.store->Await(0, 2).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(f.store->Loaded(0));
  const std::vector<ExpertStore::Ending> endings = f.store->TakeEndings();
  ASSERT_EQ(endings.size(), 1u);
  EXPECT_EQ(endings[0].unit, 0);
  EXPECT_FALSE(endings[0].ok);
  // Others go on, and the unit itself can be had once its file is readable again.
  f.store->Load(1, true);
  EXPECT_TRUE(f.store->Await(1, 2).ok());
  f.file->FailAt(-1);
  f.store->Evict(0);
  f.store->Load(0, true);
  EXPECT_TRUE(f.store->Await(0, 2).ok());
  EXPECT_TRUE(Holds(*f.store, 0, 1));
}

TEST(ExpertStore, EvictedUnderWayItStops) {
  Fixture f = MakeFake();
  for (int round = 0; round < 50; ++round) {
    f.store->Load(1, true);
    f.store->Load(2, true);
    f.store->Evict(1);
    EXPECT_FALSE(f.store->Loaded(1));
    ASSERT_TRUE(f.store->Await(2, 2).ok());
    ASSERT_TRUE(Holds(*f.store, 2, 1));
    f.store->Evict(2);
  }
}

TEST(ExpertStore, StreamedPiecesComeAndGoLayerByLayer) {
  Fixture f = MakeFake();
  for (int step = 0; step < 20; ++step) {
    f.store->Load(0, true);
    f.store->Stream({1, 2}, /*window=*/2);
    for (int layer = 0; layer < 3; ++layer) {
      for (const int unit : {0, 1, 2}) {
        ASSERT_TRUE(f.store->Await(unit, layer).ok());
        ASSERT_TRUE(Holds(*f.store, unit, layer)) << unit << " " << layer;
      }
      // Never a third layer beside the two of the window.
      if (layer == 0) {
        EXPECT_EQ(BytesPresent(*f.store, 1, 2), 0);
      }
      f.store->LayerRan(layer);
      EXPECT_EQ(BytesPresent(*f.store, 1, layer), 0);
    }
    // Three units have come; only one is there after the step.
    EXPECT_EQ(f.store->TakeEndings().size(), 3u);
    f.store->FinishStep();
    EXPECT_TRUE(f.store->Loaded(0));
    EXPECT_FALSE(f.store->Loaded(1));
    f.store->Evict(0);
  }
}

// Where a piece is as large as a page of 2 MiB, memory goes from unit to unit: from the addresses
// of who has gone to those of who has come, and never more of it than the step may have.
TEST(ExpertStore, LargePiecesPassTheirMemoryOn) {
  constexpr int64_t kBytes = 5 << 19, kLayers = 4;
  const std::vector<std::vector<int64_t>> pieces(3, std::vector<int64_t>(kLayers, kBytes));
  auto store = ExpertStore::Create(pieces, std::make_unique<FakeFile>());
  ASSERT_TRUE(store.ok());
  const auto at = [&](int unit, int layer) {
    return static_cast<char*>((*store)->Address(unit, layer));
  };
  for (int unit = 0; unit < 3; ++unit) {
    for (int layer = 0; layer < kLayers; ++layer) {
      std::memset(at(unit, layer), 1 + unit * kLayers + layer, kBytes);
      ASSERT_TRUE((*store)->Save(unit, layer).ok());
    }
  }
  const auto present = [&] {
    const int64_t page = sysconf(_SC_PAGE_SIZE);
    std::vector<unsigned char> pages((at(2, kLayers - 1) + kBytes - at(0, 0)) / page);
    mincore(at(0, 0), pages.size() * page, pages.data());
    int64_t bytes = 0;
    for (const unsigned char p : pages) bytes += (p & 1) * page;
    return bytes;
  };
  ASSERT_EQ(present(), 0);
  const auto holds = [&](int unit, int layer) {
    const std::string piece(at(unit, layer), kBytes);
    return piece == std::string(kBytes, static_cast<char>(1 + unit * kLayers + layer));
  };
  for (int step = 0; step < 12; ++step) {
    const int stays = step % 3, passes = (step + 1 + step / 6) % 3;
    (*store)->Load(stays, true);
    if (passes != stays) (*store)->Stream({passes}, /*window=*/2);
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const int unit : {stays, passes}) {
        ASSERT_TRUE((*store)->Await(unit, layer).ok());
        ASSERT_TRUE(holds(unit, layer)) << step << ": " << unit << " " << layer;
      }
      (*store)->LayerRan(layer);
    }
    (*store)->FinishStep();
    (*store)->Evict(stays);
    // One unit, two layers of another, and the page at the end of each.
    EXPECT_LE(present(), (kLayers + 2) * kBytes + 2 * (2 << 20)) << step;
  }
}

TEST(ExpertStore, AStepThatFailsLeavesNothingStreamed) {
  Fixture f = MakeFake();
  f.file->FailAt(static_cast<char*>(f.store->Address(1, 1)) -
                 static_cast<char*>(f.store->Address(0, 0)));
  f.store->Stream({1, 2}, /*window=*/2);
  EXPECT_TRUE(f.store->Await(1, 0).ok());
  f.store->LayerRan(0);
  EXPECT_EQ(f.store->Await(1, 1).status().code(), absl::StatusCode::kDataLoss);
  f.store->FinishStep();
  for (const int unit : {1, 2}) {
    for (int layer = 0; layer < 3; ++layer) EXPECT_EQ(BytesPresent(*f.store, unit, layer), 0);
  }
  // The next step finds all as it was.
  f.file->FailAt(-1);
  f.store->Stream({1, 2}, /*window=*/2);
  for (int layer = 0; layer < 3; ++layer) {
    ASSERT_TRUE(f.store->Await(1, layer).ok());
    ASSERT_TRUE(f.store->Await(2, layer).ok());
    f.store->LayerRan(layer);
  }
  f.store->FinishStep();
}

TEST(ExpertStore, WaitingIsCounted) {
  Fixture f = MakeFake();
  f.file->SetOpen(false);
  f.store->Load(0, true);
  std::thread opener([&] {
    absl::SleepFor(absl::Milliseconds(20));
    f.file->SetOpen(true);
  });
  ASSERT_TRUE(f.store->Await(0, 0).ok());
  opener.join();
  EXPECT_GT(f.store->FinishStep().time, absl::Milliseconds(10));
  ASSERT_TRUE(f.store->Await(0, 0).ok());
  EXPECT_EQ(f.store->FinishStep().time, absl::ZeroDuration());
}

TEST(DirectFile, SaysWhereItCannotBeMade) {
  const auto file = DirectFile::Create("/nowhere/at/all");
  EXPECT_EQ(file.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(file.status().message()),
              HasSubstr("expert-cache-dir: must be a folder"));
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("got /nowhere/at/all"));
}

TEST_P(RealFile, WhatWasNeverWrittenCannotBeRead) {
  auto file = DirectFile::Create(testing::TempDir(), GetParam());
  ASSERT_TRUE(file.ok());
  void* page = std::aligned_alloc(4096, 1 << 20);
  std::memset(page, 1, 1 << 20);
  ASSERT_TRUE((*file)->Write(0, page, 8192).ok());
  EXPECT_TRUE((*file)->Read(4096, page, 4096).ok());
  EXPECT_EQ((*file)->Read(4096, page, 1 << 20).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ((*file)->Read(1 << 20, page, 4096).code(), absl::StatusCode::kDataLoss);
  std::free(page);
}

}  // namespace
}  // namespace pregate
