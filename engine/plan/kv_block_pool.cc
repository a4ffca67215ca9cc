#include "engine/plan/kv_block_pool.h"

#include <cassert>

namespace pregate {

KvBlockPool::KvBlockPool(int32_t num_blocks) : blocks_(num_blocks + 1) {
  blocks_[sentinel()].previous = blocks_[sentinel()].next = sentinel();
  for (int32_t block = 0; block < num_blocks; ++block) Link(block, sentinel());
}

int32_t KvBlockPool::Allocate() {
  assert(free_ > 0);
  const int32_t block = blocks_[sentinel()].next;
  Unlink(block);
  blocks_[block].owners = 1;
  return block;
}

void KvBlockPool::Share(int32_t block) {
  assert(blocks_[block].owners > 0 || blocks_[block].kept);
  if (blocks_[block].owners == 0) Unlink(block);
  ++blocks_[block].owners;
}

void KvBlockPool::Release(int32_t block, bool keep) {
  assert(blocks_[block].owners > 0);
  if (--blocks_[block].owners > 0) return;
  blocks_[block].kept = keep;
  Link(block, keep ? sentinel() : blocks_[sentinel()].next);
}

void KvBlockPool::Link(int32_t block, int32_t before) {
  const int32_t after = blocks_[before].previous;
  blocks_[block].previous = after;
  blocks_[block].next = before;
  blocks_[after].next = blocks_[before].previous = block;
  ++free_;
  kept_ += blocks_[block].kept;
}

void KvBlockPool::Unlink(int32_t block) {
  Block& gone = blocks_[block];
  blocks_[gone.previous].next = gone.next;
  blocks_[gone.next].previous = gone.previous;
  --free_;
  kept_ -= gone.kept;
  gone.kept = false;
  gone.previous = gone.next = -1;
}

std::string KvBlockPool::CheckInvariants() const {
  int32_t free = 0, kept = 0, previous = sentinel();
  for (int32_t block = blocks_[sentinel()].next; block != sentinel(); block = blocks_[block].next) {
    if (block < 0 || ++free > num_blocks()) return "pool: the list of free blocks is broken";
    if (blocks_[block].previous != previous) return "pool: the list of free blocks is broken";
    if (blocks_[block].owners != 0) return "pool: a block with owners is listed as free";
    kept += blocks_[block].kept;
    previous = block;
  }
  if (free != free_ || kept != kept_) return "pool: counts differ from the list of free blocks";
  for (int32_t block = 0; block < num_blocks(); ++block) {
    free += blocks_[block].owners > 0;
  }
  if (free != num_blocks()) return "pool: a block is neither free nor owned";
  return "";
}

}  // namespace pregate
