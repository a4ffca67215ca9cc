// BatchPlan: one decided step, as flat arrays of ids and counts. The scheduler writes it; the
// router, the transformer, the sampler and the expert store read it. It holds no pointer, so it can
// be copied to a device, logged or compared as a value.
#ifndef PREGATE_ENGINE_PLAN_BATCH_PLAN_H_
#define PREGATE_ENGINE_PLAN_BATCH_PLAN_H_

#include <cstdint>
#include <vector>

namespace pregate {

// What a row samples that continues a drafted token which turned out not to be the sequence's.
inline constexpr int32_t kNotSampled = -1;

struct BatchPlan {
  // --- Rows: one for each token to compute, grouped by sequence. Read by Transformer. ---
  std::vector<int32_t> token_ids;  // [rows]
  std::vector<int32_t> positions;  // [rows] position of the token in its sequence
  std::vector<int32_t> kv_slots;   // [rows] block id * block_tokens + offset in the block

  // --- Sequences of the step. Read by Transformer (attention) and Scheduler::Commit. ---
  std::vector<int32_t> sequence_slots;  // [sequences] the sequence's slot id, < max_num_seqs
  std::vector<int32_t> row_start;       // [sequences + 1] first row of each sequence
  std::vector<int32_t> context_len;     // [sequences] positions in the cache once this step has run
  std::vector<int32_t> block_start;     // [sequences + 1] into block_ids
  std::vector<int32_t> block_ids;       // KV blocks of each sequence, in order of position

  // --- Rows whose logits are wanted, in row order. Read by Transformer (the head). ---
  std::vector<int32_t> logit_rows;  // [logits] row indices

  // --- What to do with each of them. Read by Sampler, and by Commit for the samples. ---
  // A logit row is sampled (the sequence's newest row, and those of the drafted tokens behind it)
  // or only scored (prompt log-probabilities).
  std::vector<int32_t> logit_slots;    // [logits] sequence slot of the row
  std::vector<int32_t> logit_targets;  // [logits] -1: sample; else the prompt token to score

  // --- Experts. Read by Transformer (the FFN) and Scheduler::Commit. ---
  std::vector<int32_t> expert_ids;  // [rows], or empty: the model has no pre-gating router

  // --- Units of expert weights that change places. Read by ExpertStore, in this order. ---
  std::vector<int32_t> evicted_units;  // their memory is free
  std::vector<int32_t> loads_now;      // the step needs them
  // The step needs them as well, and they do not fit: the piece of each layer comes before that
  // layer runs and goes after it, with those of `stream_layers` layers in memory at once.
  std::vector<int32_t> streamed_units;
  int32_t stream_layers = 0;
  std::vector<int32_t> loads_next;  // a later step will: after those above, beside this one
  // Between a device's memory and the disk, where the host's does not hold all units: those that
  // give their place in it up, and those that stay there when they come from the disk next.
  std::vector<int32_t> host_evicted_units;
  std::vector<int32_t> host_kept_units;

  int32_t rows() const { return static_cast<int32_t>(token_ids.size()); }
  int32_t sequences() const { return static_cast<int32_t>(sequence_slots.size()); }
  int32_t logits() const { return static_cast<int32_t>(logit_rows.size()); }
  bool empty() const { return token_ids.empty(); }

  friend bool operator==(const BatchPlan&, const BatchPlan&) = default;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_BATCH_PLAN_H_
