// The prefix cache: what it finds is what was asked for, whatever the hash does.
#include "engine/plan/prefix_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

constexpr PrefixId kEmpty = PrefixCache::kEmptyPrefix;
constexpr PrefixId kNone = PrefixCache::kNoPrefix;

uint64_t SameHash(PrefixId, uint64_t, const int32_t*, int32_t) { return 42; }
// Blind to everything but the first token.
uint64_t FirstToken(PrefixId, uint64_t, const int32_t* tokens, int32_t) {
  return static_cast<uint64_t>(tokens[0]);
}

const int32_t kOneTwo[] = {1, 2};
const int32_t kOneThree[] = {1, 3};
const int32_t kTwoOne[] = {2, 1};

TEST(PrefixCacheTest, FindsWhatWasInserted) {
  PrefixCache cache(4, 2, HashPrefix);
  EXPECT_EQ(cache.Find(kEmpty, 0, kOneTwo).block, -1);
  const PrefixId first = cache.Insert(kEmpty, 0, kOneTwo, 3);
  const PrefixId second = cache.Insert(first, 0, kTwoOne, 1);
  EXPECT_EQ(cache.Find(kEmpty, 0, kOneTwo).block, 3);
  EXPECT_EQ(cache.Find(kEmpty, 0, kOneTwo).prefix, first);
  EXPECT_EQ(cache.Find(first, 0, kTwoOne).block, 1);
  EXPECT_EQ(cache.Find(first, 0, kTwoOne).prefix, second);
  EXPECT_TRUE(cache.Holds(3) && cache.Holds(1) && !cache.Holds(0));
  EXPECT_EQ(cache.tokens(1)[0], 2);
  EXPECT_EQ(cache.prefix(1), second);
  EXPECT_EQ(cache.CheckInvariants(), "");
}

TEST(PrefixCacheTest, TokensPrefixAndSaltMustAllBeEqual) {
  PrefixCache cache(4, 2, HashPrefix);
  const PrefixId first = cache.Insert(kEmpty, 7, kOneTwo, 0);
  EXPECT_EQ(cache.Find(kEmpty, 7, kOneThree).block, -1);
  EXPECT_EQ(cache.Find(kEmpty, 8, kOneTwo).block, -1);
  EXPECT_EQ(cache.Find(first, 7, kOneTwo).block, -1);
  EXPECT_EQ(cache.Find(kEmpty, 7, kOneTwo).block, 0);
}

// A hash that an attacker has broken, as far as it can be broken.
TEST(PrefixCacheTest, ForcedCollisionsAreMissesNeverWrongContents) {
  for (const PrefixHash hash : {SameHash, FirstToken}) {
    PrefixCache cache(4, 2, hash);
    const PrefixId first = cache.Insert(kEmpty, 0, kOneTwo, 0);
    EXPECT_NE(first, kNone);
    EXPECT_EQ(cache.Find(kEmpty, 0, kOneThree).block, -1);  // other tokens
    EXPECT_EQ(cache.Find(kEmpty, 1, kOneTwo).block, -1);    // another tenant
    EXPECT_EQ(cache.Find(first, 0, kOneTwo).block, -1);     // after another prefix
    EXPECT_EQ(cache.Find(kEmpty, 0, kOneTwo).block, 0);

    EXPECT_EQ(cache.Insert(kEmpty, 0, kOneThree, 1), kNone);  // the place is taken
    EXPECT_FALSE(cache.Holds(1));
    EXPECT_EQ(cache.Find(kEmpty, 0, kOneTwo).block, 0);
    cache.Erase(0);
    EXPECT_NE(cache.Insert(kEmpty, 0, kOneThree, 1), kNone);
    EXPECT_EQ(cache.Find(kEmpty, 0, kOneThree).block, 1);
    EXPECT_EQ(cache.CheckInvariants(), "");
  }
}

TEST(PrefixCacheTest, WhatIsErasedIsForgottenAndWhatFollowedItUnreachable) {
  PrefixCache cache(4, 2, HashPrefix);
  const PrefixId first = cache.Insert(kEmpty, 0, kOneTwo, 0);
  cache.Insert(first, 0, kTwoOne, 1);
  cache.Erase(0);
  cache.Erase(2);  // holds nothing: no harm
  EXPECT_EQ(cache.Find(kEmpty, 0, kOneTwo).block, -1);
  const PrefixId again = cache.Insert(kEmpty, 0, kOneTwo, 2);
  EXPECT_NE(again, first) << "a prefix id was used twice";
  EXPECT_EQ(cache.Find(again, 0, kTwoOne).block, -1);
  EXPECT_EQ(cache.CheckInvariants(), "");
}

TEST(PrefixCacheTest, HashDependsOnEverything) {
  const int32_t longer[] = {1, 2, 0};
  std::set<uint64_t> hashes = {HashPrefix(1, 0, kOneTwo, 2), HashPrefix(2, 0, kOneTwo, 2),
                               HashPrefix(1, 1, kOneTwo, 2), HashPrefix(1, 0, kOneThree, 2),
                               HashPrefix(1, 0, kTwoOne, 2), HashPrefix(1, 0, longer, 3)};
  EXPECT_EQ(hashes.size(), 6u);
}

// Against a map of what each block holds, under hashes from strong to none.
TEST(PrefixCacheTest, RandomUseNeverFindsAnythingElse) {
  using Key = std::tuple<PrefixId, uint64_t, int32_t, int32_t>;
  for (const PrefixHash hash : {HashPrefix, FirstToken, SameHash}) {
    SimRandom random(11);
    PrefixCache cache(8, 2, hash);
    std::map<int32_t, Key> holds;  // block to what it holds
    std::vector<PrefixId> prefixes = {kEmpty};
    int hits = 0;
    for (int step = 0; step < 5000; ++step) {
      const PrefixId parent = prefixes[random.Draw(0, static_cast<int32_t>(prefixes.size()) - 1)];
      const uint64_t salt = static_cast<uint64_t>(random.Draw(0, 1));
      const int32_t tokens[] = {random.Draw(0, 1), random.Draw(0, 2)};
      const Key key = {parent, salt, tokens[0], tokens[1]};
      const int32_t block = random.Draw(0, 7);
      const PrefixCache::Match match = cache.Find(parent, salt, tokens);
      if (match.block >= 0) {
        ++hits;
        ASSERT_EQ(holds.at(match.block), key);
      } else {
        for (const auto& [other, held] : holds) ASSERT_NE(held, key) << "held, but not found";
        cache.Erase(block);
        holds.erase(block);
        const PrefixId inserted = cache.Insert(parent, salt, tokens, block);
        if (inserted != kNone) {
          holds[block] = key;
          prefixes.push_back(inserted);
          if (prefixes.size() > 4) prefixes.erase(prefixes.begin() + 1);
        }
      }
      ASSERT_EQ(cache.CheckInvariants(), "");
    }
    EXPECT_GT(hits, 0);
  }
}

}  // namespace
}  // namespace pregate
