#include "tests/kernels/kernel_cases.h"

#include <algorithm>

namespace pregate {

PagedKv::PagedKv(const AttentionCase& c, uint64_t seed) {
  const int64_t dim = int64_t{c.kv_heads} * c.head_dim;
  int32_t blocks = 1;  // block 0 belongs to nobody
  for (const SequenceCase& sequence : c.sequences) {
    keys_.push_back(RandomMatrix(sequence.context, dim, seed + 1, 2.0f));
    values_.push_back(RandomMatrix(sequence.context, dim, seed + 2, 2.0f));
    seed += 2;
    blocks += (sequence.context + c.block_tokens - 1) / c.block_tokens;
  }
  // Blocks are dealt round robin from the last to the first: no sequence's are in order.
  int32_t next = blocks;
  blocks_.resize(c.sequences.size());
  while (next > 1) {
    for (size_t s = 0; s < c.sequences.size(); ++s) {
      if (static_cast<int32_t>(blocks_[s].size()) * c.block_tokens < c.sequences[s].context) {
        blocks_[s].push_back(--next);
      }
    }
  }
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    slots_.emplace_back();
    for (int32_t p = 0; p < c.sequences[s].context; ++p) {
      const int32_t block = blocks_[s][static_cast<size_t>(p / c.block_tokens)];
      slots_.back().push_back(block * c.block_tokens + p % c.block_tokens);
    }
  }
  view_ = {nullptr, nullptr, c.dtype, c.block_tokens, c.kv_heads, c.head_dim, 0};
  const int64_t half = c.kv_heads * KvPartBytes(view_);
  const int64_t stride = 2 * half + 64;
  memory_ = device_->Allocate(static_cast<size_t>(blocks * stride)).value();
  std::memset(memory_.data(), 0xFF, memory_.size());
  char* keys = static_cast<char*>(memory_.data());
  view_.keys = keys;
  view_.values = keys + half;
  view_.block_stride = stride;
}

void PagedKv::Append(Device& device, const Kernels& kernels) {
  for (size_t s = 0; s < slots_.size(); ++s) {
    kernels.kv_append(device, keys_[s].view(), values_[s].view(), slots_[s].data(), view_);
  }
}

PagedKv::Batch PagedKv::MakeBatch(const std::vector<size_t>& sequences,
                                  const std::vector<SequenceCase>& parts) const {
  Batch batch;
  batch.row_start = {0};
  batch.block_start = {0};
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::vector<int32_t>& blocks = blocks_[sequences[i]];
    batch.row_start.push_back(batch.row_start.back() + parts[i].rows);
    batch.context_len.push_back(parts[i].context);
    batch.max_rows = std::max(batch.max_rows, parts[i].rows);
    batch.max_context = std::max(batch.max_context, parts[i].context);
    batch.block_ids.insert(batch.block_ids.end(), blocks.begin(), blocks.end());
    batch.block_start.push_back(static_cast<int32_t>(batch.block_ids.size()));
  }
  return batch;
}

}  // namespace pregate
