// PrefixCache: which full KV blocks hold which prefixes, so that a prompt that starts like an
// earlier one need not be computed again.
//
// A prefix is named by an id, never reused. A block's entry is found by a hash of (id of the prefix
// before it, salt, its tokens), and all three are compared before it is believed: by induction a
// hit holds exactly the tokens asked for, from position 0 on, whatever the hash does. A collision
// costs a miss. Comparison is also why the hash need not be a wide or a keyed one.
#ifndef PREGATE_ENGINE_PLAN_PREFIX_CACHE_H_
#define PREGATE_ENGINE_PLAN_PREFIX_CACHE_H_

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace pregate {

using PrefixId = uint64_t;

// Hash of a block: `count` tokens after the prefix `parent`. Tests inject weak ones.
using PrefixHash = uint64_t (*)(PrefixId parent, uint64_t salt, const int32_t* tokens,
                                int32_t count);

uint64_t HashPrefix(PrefixId parent, uint64_t salt, const int32_t* tokens, int32_t count);

class PrefixCache {
 public:
  static constexpr PrefixId kNoPrefix = 0;     // not in the cache
  static constexpr PrefixId kEmptyPrefix = 1;  // before the first block

  struct Match {
    int32_t block = -1;  // -1: a miss
    PrefixId prefix = kNoPrefix;
  };

  PrefixCache(int32_t num_blocks, int32_t block_tokens, PrefixHash hash);

  // The block that holds tokens[0, block_tokens) after `parent` under `salt`.
  Match Find(PrefixId parent, uint64_t salt, const int32_t* tokens) const;

  // Makes `block` the one that Find answers. Returns the id of the prefix that ends with it, or
  // kNoPrefix when another block has the same hash: then nothing changes. Find must have missed.
  PrefixId Insert(PrefixId parent, uint64_t salt, const int32_t* tokens, int32_t block);

  // Forgets what `block` holds, if anything: it is about to be overwritten.
  void Erase(int32_t block);

  bool Holds(int32_t block) const { return entries_[block].prefix != kNoPrefix; }
  // Tokens of a block that Holds.
  const int32_t* tokens(int32_t block) const { return &tokens_[int64_t{block} * block_tokens_]; }
  PrefixId prefix(int32_t block) const { return entries_[block].prefix; }
  uint64_t Hash(PrefixId parent, uint64_t salt, const int32_t* tokens) const {
    return hash_(parent, salt, tokens, block_tokens_);
  }

  // "" or what is broken between index and entries.
  std::string CheckInvariants() const;

 private:
  struct Entry {
    PrefixId prefix = kNoPrefix;
    PrefixId parent = kNoPrefix;
    uint64_t salt = 0;
    uint64_t hash = 0;
  };

  bool Equals(int32_t block, PrefixId parent, uint64_t salt, const int32_t* tokens) const;

  int32_t block_tokens_;
  PrefixHash hash_;
  PrefixId next_prefix_ = kEmptyPrefix + 1;
  std::vector<Entry> entries_;                   // [num_blocks]
  std::vector<int32_t> tokens_;                  // [num_blocks, block_tokens]
  std::unordered_map<uint64_t, int32_t> index_;  // hash to block; never iterated to decide
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_PREFIX_CACHE_H_
