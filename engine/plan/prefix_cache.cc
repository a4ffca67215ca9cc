#include "engine/plan/prefix_cache.h"

#include <algorithm>
#include <cassert>

namespace pregate {

uint64_t HashPrefix(PrefixId parent, uint64_t salt, const int32_t* tokens, int32_t count) {
  // Multiply and fold: each word moves every bit of the state.
  uint64_t state = 0x9e3779b97f4a7c15;
  const auto add = [&state](uint64_t word) {
    state = (state ^ word) * 0xd6e8feb86659fd93;
    state ^= state >> 32;
  };
  add(parent);
  add(salt);
  for (int32_t i = 0; i < count; ++i) add(static_cast<uint32_t>(tokens[i]));
  return state;
}

PrefixCache::PrefixCache(int32_t num_blocks, int32_t block_tokens, PrefixHash hash)
    : block_tokens_(block_tokens),
      hash_(hash),
      entries_(num_blocks),
      tokens_(static_cast<size_t>(num_blocks) * block_tokens) {}

PrefixCache::Match PrefixCache::Find(PrefixId parent, uint64_t salt, const int32_t* tokens) const {
  const auto it = index_.find(Hash(parent, salt, tokens));
  if (it == index_.end() || !Equals(it->second, parent, salt, tokens)) return {};
  return {it->second, entries_[it->second].prefix};
}

PrefixId PrefixCache::Insert(PrefixId parent, uint64_t salt, const int32_t* tokens, int32_t block) {
  assert(!Holds(block));
  const uint64_t hash = Hash(parent, salt, tokens);
  const auto [it, inserted] = index_.emplace(hash, block);
  if (!inserted) {
    assert(!Equals(it->second, parent, salt, tokens));
    return kNoPrefix;
  }
  entries_[block] = {next_prefix_++, parent, salt, hash};
  std::copy_n(tokens, block_tokens_, &tokens_[int64_t{block} * block_tokens_]);
  return entries_[block].prefix;
}

void PrefixCache::Erase(int32_t block) {
  if (!Holds(block)) return;
  index_.erase(entries_[block].hash);
  entries_[block] = {};
}

bool PrefixCache::Equals(int32_t block, PrefixId parent, uint64_t salt,
                         const int32_t* tokens) const {
  const Entry& entry = entries_[block];
  return entry.parent == parent && entry.salt == salt &&
         std::equal(tokens, tokens + block_tokens_, this->tokens(block));
}

std::string PrefixCache::CheckInvariants() const {
  size_t held = 0;
  for (int32_t block = 0; block < static_cast<int32_t>(entries_.size()); ++block) {
    if (!Holds(block)) continue;
    ++held;
    const auto it = index_.find(entries_[block].hash);
    if (it == index_.end() || it->second != block) return "cache: an entry is not indexed";
  }
  if (held != index_.size()) return "cache: the index names a block without an entry";
  return "";
}

}  // namespace pregate
