// The blocks of sequences: prefixes found, shared, merged and given back.
#include "engine/plan/kv_blocks.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

namespace pregate {
namespace {

constexpr int32_t kBlockTokens = 2;

uint64_t SameHash(PrefixId, uint64_t, const int32_t*, int32_t) { return 42; }

Sequence MakeSequence(std::vector<int32_t> prompt, uint64_t salt = 0) {
  Sequence sequence;
  sequence.tokens = prompt;
  sequence.request.prompt = std::move(prompt);
  sequence.request.cache_salt = salt;
  return sequence;
}

class KvBlocksTest : public ::testing::Test {
 protected:
  void MakeBlocks(int32_t num_blocks, bool caching = true, PrefixHash hash = HashPrefix) {
    blocks_ = std::make_unique<KvBlocks>(num_blocks, kBlockTokens, caching, hash);
  }
  bool Open(Sequence* sequence, int32_t headroom = 0) {
    return blocks_->Open(sequence, blocks_->FindPrefix(*sequence), sequence->size(), headroom);
  }
  // As a scheduler would after the sequence's prompt was computed, and a token sampled.
  void Compute(Sequence* sequence, int32_t next_token) {
    sequence->computed = sequence->size();
    blocks_->ShareFullBlocks(sequence);
    sequence->tokens.push_back(next_token);
  }
  void ExpectSound(const std::vector<const Sequence*>& sequences) {
    EXPECT_EQ(blocks_->CheckInvariants(sequences), "");
  }
  int32_t free() const { return blocks_->pool().free(); }

  std::unique_ptr<KvBlocks> blocks_;
};

TEST_F(KvBlocksTest, BlocksForRoundsUp) {
  MakeBlocks(4);
  const int32_t expected[] = {0, 1, 1, 2, 2, 3};
  for (int32_t positions = 0; positions < 6; ++positions) {
    EXPECT_EQ(blocks_->BlocksFor(positions), expected[positions]);
  }
}

TEST_F(KvBlocksTest, APrefixIsFoundOnceItIsComputed) {
  MakeBlocks(8);
  Sequence first = MakeSequence({1, 2, 3, 4, 5});
  ASSERT_TRUE(Open(&first));
  EXPECT_TRUE(blocks_->FindPrefix(MakeSequence({1, 2, 3, 4, 5})).blocks.empty());
  Compute(&first, 6);
  const KvBlocks::Prefix found = blocks_->FindPrefix(MakeSequence({1, 2, 3, 4, 9}));
  EXPECT_EQ(found.blocks, std::vector<int32_t>({first.blocks[0], first.blocks[1]}));

  Sequence second = MakeSequence({1, 2, 3, 4, 9});
  ASSERT_TRUE(Open(&second));
  EXPECT_EQ(second.computed, 4);
  EXPECT_EQ(second.blocks[0], first.blocks[0]);
  EXPECT_NE(second.blocks[2], first.blocks[2]);
  EXPECT_EQ(free(), 8 - 4);
  ExpectSound({&first, &second});
}

TEST_F(KvBlocksTest, APrefixNeverReachesTheLastToken) {
  MakeBlocks(8);
  Sequence first = MakeSequence({1, 2, 3, 4});
  ASSERT_TRUE(Open(&first));
  Compute(&first, 5);
  struct Case {
    std::vector<int32_t> prompt;
    size_t hits;
  };
  const Case cases[] = {{{1}, 0},          {{1, 2}, 0},          {{1, 2, 3}, 1},
                        {{1, 2, 3, 4}, 1}, {{1, 2, 3, 4, 5}, 2}, {{2, 1, 3}, 0}};
  for (const Case& c : cases) {
    EXPECT_EQ(blocks_->FindPrefix(MakeSequence(c.prompt)).blocks.size(), c.hits)
        << "a prompt of " << c.prompt.size();
  }
}

TEST_F(KvBlocksTest, SaltsScoredPromptsAndTheSwitchForbidHits) {
  MakeBlocks(8);
  Sequence first = MakeSequence({1, 2, 3}, /*salt=*/1);
  ASSERT_TRUE(Open(&first));
  Compute(&first, 4);
  EXPECT_EQ(blocks_->FindPrefix(MakeSequence({1, 2, 3}, 1)).blocks.size(), 1u);
  EXPECT_EQ(blocks_->FindPrefix(MakeSequence({1, 2, 3}, 2)).blocks.size(), 0u);
  Sequence scored = MakeSequence({1, 2, 3}, 1);
  scored.request.prompt_logits = true;
  EXPECT_EQ(blocks_->FindPrefix(scored).blocks.size(), 0u);

  MakeBlocks(8, /*caching=*/false);
  Sequence uncached = MakeSequence({1, 2, 3});
  ASSERT_TRUE(Open(&uncached));
  Compute(&uncached, 4);
  EXPECT_EQ(blocks_->FindPrefix(MakeSequence({1, 2, 3})).blocks.size(), 0u);
  EXPECT_EQ(blocks_->HashInProgress(uncached), 0u);
}

TEST_F(KvBlocksTest, OpenTakesAllOrNothing) {
  MakeBlocks(3);
  Sequence first = MakeSequence({1, 2, 3});
  ASSERT_TRUE(Open(&first));
  Sequence second = MakeSequence({4, 5, 6});
  EXPECT_FALSE(Open(&second));
  EXPECT_TRUE(second.blocks.empty());
  EXPECT_EQ(second.computed, 0);
  EXPECT_EQ(free(), 1);
  ExpectSound({&first, &second});
}

TEST_F(KvBlocksTest, OpenLeavesTheHeadroom) {
  MakeBlocks(3);
  Sequence sequence = MakeSequence({1, 2, 3});
  EXPECT_FALSE(Open(&sequence, /*headroom=*/2));
  EXPECT_TRUE(Open(&sequence, /*headroom=*/1));
}

// A kept block that is hit is no longer free, so it must not be counted as room.
TEST_F(KvBlocksTest, HitsOnFreeBlocksAreNotRoom) {
  MakeBlocks(2);
  Sequence first = MakeSequence({1, 2, 3});
  ASSERT_TRUE(Open(&first));
  Compute(&first, 4);
  blocks_->Close(&first);
  EXPECT_EQ(free(), 2);
  Sequence second = MakeSequence({1, 2, 3, 4, 5});  // a hit and two more: three blocks
  EXPECT_FALSE(Open(&second));
  ExpectSound({&second});
  Sequence third = MakeSequence({1, 2, 3});
  EXPECT_TRUE(Open(&third));
  EXPECT_EQ(third.computed, 2);
  ExpectSound({&third});
}

TEST_F(KvBlocksTest, TwinsComputedSideBySideBecomeOne) {
  MakeBlocks(8);
  Sequence first = MakeSequence({1, 2, 3, 4, 5}), second = MakeSequence({1, 2, 3, 4, 6});
  ASSERT_TRUE(Open(&first) && Open(&second));
  EXPECT_EQ(free(), 2);
  Compute(&first, 7);
  Compute(&second, 8);
  EXPECT_EQ(second.blocks[0], first.blocks[0]);
  EXPECT_EQ(second.blocks[1], first.blocks[1]);
  EXPECT_NE(second.blocks[2], first.blocks[2]);
  EXPECT_EQ(free(), 4);
  EXPECT_EQ(blocks_->pool().owners(first.blocks[0]), 2);
  ExpectSound({&first, &second});
}

TEST_F(KvBlocksTest, TheCacheLosesTheEndsOfPrefixesFirst) {
  MakeBlocks(3);
  Sequence first = MakeSequence({1, 2, 3, 4, 5, 6});
  ASSERT_TRUE(Open(&first));
  Compute(&first, 7);
  blocks_->Close(&first);
  EXPECT_EQ(blocks_->pool().kept(), 3);
  Sequence other = MakeSequence({9, 9});
  ASSERT_TRUE(Open(&other));
  EXPECT_EQ(blocks_->FindPrefix(MakeSequence({1, 2, 3, 4, 5, 6, 7})).blocks.size(), 2u);
  ExpectSound({&other});
}

TEST_F(KvBlocksTest, TheBlockInProgressIsTheOneThatAFollowerLacks) {
  MakeBlocks(8);
  Sequence leader = MakeSequence({1, 2, 3, 4, 5});
  ASSERT_TRUE(Open(&leader));
  const Sequence follower = MakeSequence({1, 2, 3, 4, 9});
  EXPECT_EQ(blocks_->FindPrefix(follower).next_hash, blocks_->HashInProgress(leader));
  leader.computed = 2;
  blocks_->ShareFullBlocks(&leader);
  EXPECT_EQ(blocks_->FindPrefix(follower).next_hash, blocks_->HashInProgress(leader));
  Compute(&leader, 6);
  EXPECT_EQ(blocks_->FindPrefix(follower).next_hash, 0u);  // it lacks none
  EXPECT_NE(blocks_->HashInProgress(leader), 0u);          // {5, 6}
  EXPECT_EQ(blocks_->FindPrefix(MakeSequence({1})).next_hash, 0u);
}

TEST_F(KvBlocksTest, ACollisionCostsAMiss) {
  MakeBlocks(8, /*caching=*/true, SameHash);
  Sequence first = MakeSequence({1, 2, 3, 4, 5}), second = MakeSequence({1, 3, 3, 4, 5});
  ASSERT_TRUE(Open(&first) && Open(&second));
  Compute(&first, 6);
  EXPECT_EQ(first.shared_blocks, 1);  // its second block collides with its first
  Compute(&second, 6);
  EXPECT_EQ(second.shared_blocks, 0);
  EXPECT_EQ(blocks_->HashInProgress(second), 0u);
  EXPECT_EQ(blocks_->FindPrefix(MakeSequence({1, 3, 3})).blocks.size(), 0u);
  EXPECT_EQ(blocks_->FindPrefix(MakeSequence({1, 2, 3, 4, 5})).blocks.size(), 1u);
  ExpectSound({&first, &second});
}

// The check itself must be able to fail.
TEST_F(KvBlocksTest, InvariantsNoticeWhatIsBroken) {
  MakeBlocks(8);
  Sequence first = MakeSequence({1, 2, 3, 4, 5});
  ASSERT_TRUE(Open(&first));
  Compute(&first, 6);
  ExpectSound({&first});
  EXPECT_NE(blocks_->CheckInvariants({}), "") << "blocks without owners";
  EXPECT_NE(blocks_->CheckInvariants({&first, &first}), "") << "owners that do not count";
  Sequence early = first;
  early.computed = 3;
  EXPECT_NE(blocks_->CheckInvariants({&early}), "") << "shared before it is computed";
  Sequence other = first;
  other.tokens[2] = 9;
  EXPECT_NE(blocks_->CheckInvariants({&other}), "") << "other tokens";
  Sequence unshared = first;
  unshared.shared_blocks = 3;
  unshared.computed = 6;
  EXPECT_NE(blocks_->CheckInvariants({&unshared}), "") << "shared, and not in the cache";
}

}  // namespace
}  // namespace pregate
