// The pool of KV blocks: who owns what, and in which order blocks are given away.
#include "engine/plan/kv_block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

TEST(KvBlockPoolTest, EveryBlockIsGivenOnce) {
  KvBlockPool pool(5);
  std::vector<bool> given(5);
  for (int i = 0; i < 5; ++i) {
    const int32_t block = pool.Allocate();
    EXPECT_FALSE(given.at(block));
    given[block] = true;
    EXPECT_EQ(pool.owners(block), 1);
    EXPECT_EQ(pool.free(), 4 - i);
    EXPECT_EQ(pool.CheckInvariants(), "");
  }
}

TEST(KvBlockPoolTest, OnlyTheLastOwnerFreesABlock) {
  KvBlockPool pool(2);
  const int32_t block = pool.Allocate();
  pool.Share(block);
  pool.Share(block);
  EXPECT_EQ(pool.owners(block), 3);
  pool.Release(block, /*keep=*/true);
  pool.Release(block, /*keep=*/true);
  EXPECT_EQ(pool.free(), 1);
  EXPECT_EQ(pool.kept(), 0);
  pool.Release(block, /*keep=*/true);
  EXPECT_EQ(pool.owners(block), 0);
  EXPECT_EQ(pool.free(), 2);
  EXPECT_EQ(pool.kept(), 1);
}

TEST(KvBlockPoolTest, KeptBlocksAreGivenAwayLastTheOldestFirst) {
  KvBlockPool pool(4);
  const int32_t a = pool.Allocate(), b = pool.Allocate(), c = pool.Allocate();
  pool.Release(b, /*keep=*/true);
  pool.Release(a, /*keep=*/true);
  pool.Release(c, /*keep=*/false);
  EXPECT_EQ(pool.Allocate(), c);  // empty, and released last: it may still be in a cache
  const int32_t never_used = pool.Allocate();
  EXPECT_TRUE(never_used != a && never_used != b);
  EXPECT_EQ(pool.kept(), 2);
  EXPECT_EQ(pool.Allocate(), b);  // kept longest
  EXPECT_EQ(pool.Allocate(), a);
  EXPECT_EQ(pool.free(), 0);
}

TEST(KvBlockPoolTest, AHitTakesAKeptBlockFromTheFree) {
  KvBlockPool pool(3);
  const int32_t a = pool.Allocate(), b = pool.Allocate();
  pool.Release(a, /*keep=*/true);
  pool.Release(b, /*keep=*/true);
  pool.Share(a);
  EXPECT_EQ(pool.owners(a), 1);
  EXPECT_EQ(pool.kept(), 1);
  EXPECT_EQ(pool.free(), 2);
  EXPECT_NE(pool.Allocate(), a);
  EXPECT_NE(pool.Allocate(), a);
  EXPECT_EQ(pool.free(), 0);
  EXPECT_EQ(pool.CheckInvariants(), "");
}

TEST(KvBlockPoolTest, ABlockThatIsHitAgainIsTheYoungest) {
  KvBlockPool pool(2);
  const int32_t a = pool.Allocate(), b = pool.Allocate();
  pool.Release(a, /*keep=*/true);
  pool.Release(b, /*keep=*/true);
  pool.Share(a);
  pool.Release(a, /*keep=*/true);
  EXPECT_EQ(pool.Allocate(), b);
  EXPECT_EQ(pool.Allocate(), a);
}

TEST(KvBlockPoolDeathTest, WhatNobodyOwnsCannotBeReleasedOrShared) {
  KvBlockPool pool(2);
  EXPECT_DEATH(pool.Release(0, false), "owners > 0");
  EXPECT_DEATH(pool.Share(0), "kept");
  pool.Allocate();
  pool.Allocate();
  EXPECT_DEATH(pool.Allocate(), "free_ > 0");
}

// Against a plain count of owners.
TEST(KvBlockPoolTest, RandomUseAgreesWithAPlainCount) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SimRandom random(seed);
    const int32_t num_blocks = random.Draw(1, 12);
    KvBlockPool pool(num_blocks);
    std::vector<int32_t> owners(num_blocks);
    std::vector<bool> kept(num_blocks);
    for (int step = 0; step < 300; ++step) {
      const int32_t block = random.Draw(0, num_blocks - 1);
      const int32_t action = random.Draw(0, 3);
      if (action == 0 && pool.free() > 0) {
        const int32_t got = pool.Allocate();
        ASSERT_EQ(owners[got], 0);
        const int64_t unkept = std::count(owners.begin(), owners.end(), 0) -
                               std::count(kept.begin(), kept.end(), true);
        ASSERT_EQ(kept[got], unkept == 0) << "kept blocks go last";
        owners[got] = 1;
        kept[got] = false;
      } else if (action == 1 && (owners[block] > 0 || kept[block])) {
        pool.Share(block);
        ++owners[block];
        kept[block] = false;
      } else if (action >= 2 && owners[block] > 0) {
        const bool keep = random.OneIn(2);
        pool.Release(block, keep);
        if (--owners[block] == 0) kept[block] = keep;
      }
      ASSERT_EQ(pool.CheckInvariants(), "");
      ASSERT_EQ(pool.free(), std::count(owners.begin(), owners.end(), 0));
      ASSERT_EQ(pool.kept(), std::count(kept.begin(), kept.end(), true));
      for (int32_t i = 0; i < num_blocks; ++i) ASSERT_EQ(pool.owners(i), owners[i]);
    }
  }
}

}  // namespace
}  // namespace pregate
