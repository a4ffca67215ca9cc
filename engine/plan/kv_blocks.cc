#include "engine/plan/kv_blocks.h"

#include <algorithm>
#include <cassert>

namespace pregate {

KvBlocks::KvBlocks(int32_t num_blocks, int32_t block_tokens, bool enable_prefix_caching,
                   PrefixHash hash)
    : block_tokens_(block_tokens),
      enable_prefix_caching_(enable_prefix_caching),
      pool_(num_blocks),
      cache_(num_blocks, block_tokens, hash) {}

KvBlocks::Prefix KvBlocks::FindPrefix(const Sequence& sequence) const {
  Prefix prefix;
  if (!enable_prefix_caching_ || sequence.request.prompt_logits) return prefix;
  const uint64_t salt = sequence.request.cache_salt;
  const int32_t full_blocks = (sequence.size() - 1) / block_tokens_;
  for (int32_t i = 0; i < full_blocks; ++i) {
    const int32_t* tokens = &sequence.tokens[int64_t{i} * block_tokens_];
    const PrefixCache::Match match = cache_.Find(prefix.id, salt, tokens);
    if (match.block < 0) {
      prefix.next_hash = cache_.Hash(prefix.id, salt, tokens);
      break;
    }
    prefix.blocks.push_back(match.block);
    prefix.id = match.prefix;
  }
  return prefix;
}

uint64_t KvBlocks::HashInProgress(const Sequence& sequence) const {
  const bool full = (sequence.shared_blocks + 1) * block_tokens_ <= sequence.size();
  if (!enable_prefix_caching_ || !full || sequence.prefix == PrefixCache::kNoPrefix) return 0;
  return cache_.Hash(sequence.prefix, sequence.request.cache_salt,
                     &sequence.tokens[int64_t{sequence.shared_blocks} * block_tokens_]);
}

bool KvBlocks::Open(Sequence* sequence, const Prefix& prefix, int32_t positions, int32_t headroom) {
  assert(sequence->blocks.empty() && sequence->computed == 0);
  const int32_t hits = static_cast<int32_t>(prefix.blocks.size());
  const int32_t fresh = BlocksFor(positions) - hits;
  const auto is_free = [this](int32_t block) { return pool_.owners(block) == 0; };
  const auto free_hits = std::count_if(prefix.blocks.begin(), prefix.blocks.end(), is_free);
  if (fresh + headroom > pool_.free() - free_hits) return false;

  for (int32_t block : prefix.blocks) pool_.Share(block);
  sequence->blocks = prefix.blocks;
  sequence->shared_blocks = hits;
  sequence->prefix = prefix.id;
  sequence->computed = hits * block_tokens_;
  sequence->routed = sequence->computed;  // the router's keys and values are in the same blocks
  for (int32_t i = 0; i < fresh; ++i) sequence->blocks.push_back(Allocate());
  return true;
}

bool KvBlocks::Grow(Sequence* sequence) {
  if (pool_.free() == 0) return false;
  sequence->blocks.push_back(Allocate());
  return true;
}

void KvBlocks::Trim(Sequence* sequence, int32_t positions) {
  while (static_cast<int32_t>(sequence->blocks.size()) > BlocksFor(positions)) {
    pool_.Release(sequence->blocks.back(), /*keep=*/false);
    sequence->blocks.pop_back();
  }
}

void KvBlocks::ShareFullBlocks(Sequence* sequence) {
  if (!enable_prefix_caching_) return;
  const uint64_t salt = sequence->request.cache_salt;
  while (sequence->prefix != PrefixCache::kNoPrefix &&
         (sequence->shared_blocks + 1) * block_tokens_ <= sequence->computed) {
    int32_t& own = sequence->blocks[sequence->shared_blocks];
    const int32_t* tokens = &sequence->tokens[int64_t{sequence->shared_blocks} * block_tokens_];
    const PrefixCache::Match twin = cache_.Find(sequence->prefix, salt, tokens);
    if (twin.block >= 0) {
      pool_.Share(twin.block);
      pool_.Release(own, /*keep=*/false);
      own = twin.block;
      sequence->prefix = twin.prefix;
    } else {
      sequence->prefix = cache_.Insert(sequence->prefix, salt, tokens, own);
    }
    if (sequence->prefix != PrefixCache::kNoPrefix) ++sequence->shared_blocks;
  }
}

void KvBlocks::Close(Sequence* sequence) {
  for (auto block = sequence->blocks.rbegin(); block != sequence->blocks.rend(); ++block) {
    pool_.Release(*block, cache_.Holds(*block));
  }
  sequence->blocks.clear();
  sequence->shared_blocks = 0;
  sequence->prefix = PrefixCache::kEmptyPrefix;
  sequence->computed = 0;
  sequence->routed = 0;
}

int32_t KvBlocks::Allocate() {
  const int32_t block = pool_.Allocate();
  cache_.Erase(block);
  return block;
}

std::string KvBlocks::CheckInvariants(const std::vector<const Sequence*>& sequences) const {
  if (std::string broken = pool_.CheckInvariants(); !broken.empty()) return broken;
  if (std::string broken = cache_.CheckInvariants(); !broken.empty()) return broken;
  std::vector<int32_t> owners(pool_.num_blocks());
  for (const Sequence* sequence : sequences) {
    for (int32_t block : sequence->blocks) ++owners[block];
    if (std::string broken = CheckContents(*sequence); !broken.empty()) return broken;
  }
  int32_t kept = 0;
  for (int32_t block = 0; block < pool_.num_blocks(); ++block) {
    if (owners[block] != pool_.owners(block)) {
      return "blocks: block " + std::to_string(block) + " counts " +
             std::to_string(pool_.owners(block)) + " owners but has " +
             std::to_string(owners[block]);
    }
    if (owners[block] > 1 && !cache_.Holds(block)) return "blocks: a private block is shared";
    kept += owners[block] == 0 && cache_.Holds(block);
  }
  if (kept != pool_.kept()) return "blocks: kept blocks and cache entries differ";
  return "";
}

std::string KvBlocks::CheckContents(const Sequence& sequence) const {
  if (sequence.shared_blocks * block_tokens_ > sequence.computed) {
    return "blocks: a block is shared before it is computed";
  }
  for (int32_t i = 0; i < sequence.shared_blocks; ++i) {
    const int32_t block = sequence.blocks[i];
    const auto tokens = sequence.tokens.begin() + int64_t{i} * block_tokens_;
    if (!cache_.Holds(block)) return "blocks: a shared block is not in the cache";
    if (!std::equal(tokens, tokens + block_tokens_, cache_.tokens(block))) {
      return "blocks: a shared block holds other tokens than its sequence";
    }
  }
  return "";
}

}  // namespace pregate
