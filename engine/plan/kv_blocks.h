// KvBlocks: the blocks of each sequence, between KvBlockPool (who owns what) and PrefixCache (what
// is where). It decides nothing: the scheduler asks for room, and gets it or not.
#ifndef PREGATE_ENGINE_PLAN_KV_BLOCKS_H_
#define PREGATE_ENGINE_PLAN_KV_BLOCKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/plan/kv_block_pool.h"
#include "engine/plan/prefix_cache.h"
#include "engine/plan/sequence.h"

namespace pregate {

class KvBlocks {
 public:
  KvBlocks(int32_t num_blocks, int32_t block_tokens, bool enable_prefix_caching, PrefixHash hash);

  // Blocks that hold `positions` positions.
  int32_t BlocksFor(int32_t positions) const {
    return (positions + block_tokens_ - 1) / block_tokens_;
  }

  // Leading blocks of a sequence that the cache holds.
  struct Prefix {
    std::vector<int32_t> blocks;
    PrefixId id = PrefixCache::kEmptyPrefix;
    uint64_t next_hash = 0;  // of the first full block that it lacks; 0: there is none
  };
  // Never reaches the sequence's last token: its row must run, for its logits.
  Prefix FindPrefix(const Sequence& sequence) const;

  // Hash of the full block that a sequence with blocks will share next; 0: none. A prefix that
  // lacks the block of this hash will find it once the sequence has computed it.
  uint64_t HashInProgress(const Sequence& sequence) const;

  // Gives a sequence without blocks its prefix, and free blocks up to `positions`. False, and
  // nothing changes, when that leaves fewer than `headroom` free blocks.
  bool Open(Sequence* sequence, const Prefix& prefix, int32_t positions, int32_t headroom);

  // One more block at the end, if there is a free one.
  bool Grow(Sequence* sequence);

  // Gives back the blocks at the end that lie behind `positions`, which nothing has been shared of.
  void Trim(Sequence* sequence, int32_t positions);

  // Makes blocks that have become full known to the cache. Where it already knows an equal block,
  // the sequence takes that and gives its own back: answers to one prompt that were computed side
  // by side hold it once.
  void ShareFullBlocks(Sequence* sequence);

  // Gives all blocks back, the last first, so that the cache loses the ends of prefixes before
  // their beginnings.
  void Close(Sequence* sequence);

  int32_t block_tokens() const { return block_tokens_; }
  const KvBlockPool& pool() const { return pool_; }
  const PrefixCache& cache() const { return cache_; }

  // "" or what is broken; `sequences` are all that may own blocks.
  std::string CheckInvariants(const std::vector<const Sequence*>& sequences) const;

 private:
  int32_t Allocate();
  std::string CheckContents(const Sequence& sequence) const;

  int32_t block_tokens_;
  bool enable_prefix_caching_;
  KvBlockPool pool_;
  PrefixCache cache_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_KV_BLOCKS_H_
