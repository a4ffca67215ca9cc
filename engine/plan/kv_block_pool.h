// KvBlockPool: which KV blocks are in use, and by how many sequences. Ids and counts only; the
// memory is KvStorage's.
#ifndef PREGATE_ENGINE_PLAN_KV_BLOCK_POOL_H_
#define PREGATE_ENGINE_PLAN_KV_BLOCK_POOL_H_

#include <cstdint>
#include <string>
#include <vector>

namespace pregate {

class KvBlockPool {
 public:
  explicit KvBlockPool(int32_t num_blocks);

  // A free block, now with one owner: one with nothing worth keeping if there is any, else the one
  // released longest ago. There must be a free block.
  int32_t Allocate();

  // One more owner for a block whose contents are known: used, or free and kept.
  void Share(int32_t block);

  // One owner less. The last one frees the block; `keep` says whether its contents may be hit
  // again, in which case it is given away as late as possible.
  void Release(int32_t block, bool keep);

  int32_t owners(int32_t block) const { return blocks_[block].owners; }
  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()) - 1; }
  int32_t free() const { return free_; }
  int32_t kept() const { return kept_; }  // free, contents known

  // "" or what is broken in the list of free blocks.
  std::string CheckInvariants() const;

 private:
  // A free block is a link of a ring that starts and ends at the sentinel blocks_.back(), in the
  // order in which blocks are given away.
  struct Block {
    int32_t owners = 0;
    bool kept = false;
    int32_t previous = -1;
    int32_t next = -1;
  };

  int32_t sentinel() const { return num_blocks(); }
  void Link(int32_t block, int32_t before);
  void Unlink(int32_t block);

  std::vector<Block> blocks_;
  int32_t free_ = 0;
  int32_t kept_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_KV_BLOCK_POOL_H_
