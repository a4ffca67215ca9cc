// Pieces in several runs, of units that lie between each other: they come and go by themselves.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <memory>
#include <utility>
#include <vector>

#include "engine/model/expert_store.h"

namespace pregate {
namespace {

constexpr int64_t kStep = DirectFile::kAlignment;
const ExpertStore::Runs kRuns = {{{{0, 5000}, {6 * kStep, 100}}, {}},
                                 {{{2 * kStep, kStep}, {5 * kStep, 77}}, {{8 * kStep, 9000}}}};

char Pattern(int unit, int64_t at) { return static_cast<char>(unit * 71 + at * 7 + at / 251); }

template <typename Body>
void ForEachByte(int unit, const Body& body) {
  for (const std::vector<ExpertStore::Run>& piece : kRuns[static_cast<size_t>(unit)]) {
    for (const ExpertStore::Run& run : piece) {
      for (int64_t i = 0; i < run.bytes; ++i) body(run.offset + i);
    }
  }
}

class ScatteredExperts : public testing::Test {
 protected:
  void SetUp() override {
    auto file = DirectFile::Create(testing::TempDir());
    ASSERT_TRUE(file.ok()) << file.status();
    auto made = ExpertStore::CreateScattered(kRuns, *std::move(file));
    ASSERT_TRUE(made.ok()) << made.status();
    store_ = *std::move(made);
    base_ = static_cast<char*>(store_->Address(0, 0));
    for (int unit = 0; unit < 2; ++unit) {
      ForEachByte(unit, [&](int64_t at) { base_[at] = Pattern(unit, at); });
      for (int layer = 0; layer < 2; ++layer) ASSERT_TRUE(store_->Save(unit, layer).ok());
    }
  }

  bool Holds(int unit) const {
    bool all = true;
    ForEachByte(unit, [&](int64_t at) { all &= base_[at] == Pattern(unit, at); });
    return all;
  }
  // Bytes that memory stands behind.
  int64_t Present() const {
    unsigned char pages[11];
    EXPECT_EQ(mincore(base_, sizeof(pages) * kStep, pages), 0);
    int64_t bytes = 0;
    for (const unsigned char page : pages) bytes += (page & 1) * kStep;
    return bytes;
  }

  std::unique_ptr<ExpertStore> store_;
  char* base_ = nullptr;
};

TEST_F(ScatteredExperts, SizesAreThoseOfWholePages) {
  EXPECT_EQ(store_->unit_bytes(0), 3 * kStep);
  EXPECT_EQ(store_->unit_bytes(1), 5 * kStep);
  EXPECT_EQ(store_->Address(1, 1), base_);
  EXPECT_EQ(Present(), 0);
}

TEST_F(ScatteredExperts, WhatIsLoadedIsWhatWasSaved) {
  for (int round = 0; round < 3; ++round) {
    store_->Load(1, true);
    ASSERT_TRUE(store_->Await(1, 1).ok());
    EXPECT_TRUE(Holds(1));
    EXPECT_EQ(Present(), 5 * kStep);
    store_->Load(0, false);
    ASSERT_TRUE(store_->Await(0, 1).ok());  // a piece without runs
    EXPECT_TRUE(Holds(0));
    EXPECT_TRUE(store_->Loaded(0));
    EXPECT_EQ(Present(), 8 * kStep);
    store_->Evict(1);
    EXPECT_TRUE(Holds(0));
    EXPECT_EQ(Present(), 3 * kStep);
    store_->Evict(0);
    EXPECT_EQ(Present(), 0);
  }
}

TEST_F(ScatteredExperts, StreamedPiecesGoAfterTheirLayer) {
  store_->Stream({0, 1}, 1);
  ASSERT_TRUE(store_->Await(1, 0).ok());
  ASSERT_TRUE(store_->Await(0, 0).ok());
  EXPECT_EQ(Present(), 5 * kStep);
  store_->LayerRan(0);
  ASSERT_TRUE(store_->Await(1, 1).ok());
  EXPECT_EQ(Present(), 3 * kStep);
  store_->FinishStep();
  EXPECT_EQ(Present(), 0);
}

}  // namespace
}  // namespace pregate
