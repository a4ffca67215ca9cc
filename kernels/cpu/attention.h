// Attention's plan on a CPU: which thread works on which rows and which stretch of history.
//
// The order of arithmetic is fixed by positions alone, which makes a row's result independent of
// its chunk, its batch and the number of threads: history is cut at multiples of kKvTile into tiles
// (one step of the online softmax) and at multiples of kKvSpan into spans. Each span starts from an
// empty softmax state; a row's result is the merge of its spans' states, first to last. A tile or
// span that a row cannot see leaves the row's state unchanged bit for bit, so rows may travel
// together. Whether one thread walks all spans or each has a thread changes nothing.
// Online softmax: Milakov and Gimelshein, 2018; merging of states: Dao et al., "Flash-Decoding".
#ifndef PREGATE_KERNELS_CPU_ATTENTION_H_
#define PREGATE_KERNELS_CPU_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace pregate {

inline constexpr int64_t kKvTile = 64;
inline constexpr int64_t kKvSpan = 256;
// The maximum of a state that has seen nothing: finite, so that differences are never NaN.
inline constexpr float kEmptyMax = -1e30f;

struct AttentionCall {
  ConstTensor q;
  KvLayerView kv;
  AttentionBatch batch;
  AttentionParams params;
  Tensor out;
  int64_t group;       // query heads that share a key-value head
  int64_t padded_dim;  // head_dim rounded up to whole vectors
  int64_t row_bytes;   // of a value in the cache
  int64_t part_bytes;  // see kv_layout.h
};

// Consecutive rows of one sequence, for the query heads of one key-value head. In tables with one
// line per (row, head of the group), line = row * group + head.
struct RowTile {
  int32_t sequence;
  int32_t kv_head;
  int64_t first_row;  // in the batch
  int64_t rows;
  int64_t first_position;  // of the first row
  int64_t begin, end;      // positions that some row of the tile sees
  int64_t cost;            // of its work, in an arbitrary unit

  int64_t first_span() const { return begin / kKvSpan; }
  int64_t num_spans() const { return (end + kKvSpan - 1) / kKvSpan - first_span(); }
  // Positions of the span that some row sees.
  int64_t span_begin(int64_t span) const { return begin > span * kKvSpan ? begin : span * kKvSpan; }
  int64_t span_end(int64_t span) const {
    return end < (span + 1) * kKvSpan ? end : (span + 1) * kKvSpan;
  }
};

// What a thread will read after the span in hand, so that memory can be asked for it in time.
struct NextSpan {
  const RowTile* tile = nullptr;
  int64_t begin = 0, end = 0;  // positions
};

// The softmax of `lines` lines over some positions, before division: max of the scores, sum of
// exp(score - max), and the values mixed with those weights.
struct SoftmaxState {
  float* max;  // [lines]
  float* sum;  // [lines]
  float* mix;  // [lines, padded_dim]
};

// What an instruction set provides.
struct AttentionRoutines {
  int lanes;
  // The state of the tile's rows over span `span` alone. `scratch`: see SplitScratch.
  void (*run_span)(const AttentionCall&, const RowTile&, int64_t span, const NextSpan& next,
                   float* scratch, SoftmaxState state);
  // into <- the state of both's positions.
  void (*merge)(int64_t lines, int64_t padded_dim, SoftmaxState from, SoftmaxState into);
  // out <- mix / sum.
  void (*finish)(const AttentionCall&, const RowTile&, SoftmaxState state);
};

// Parts of the memory that run_span works in.
struct AttentionScratch {
  float* queries;  // [lines, head_dim], scaled
  float* keys;     // [head_dim, kKvTile], for tiles that are converted
  float* values;   // [kKvTile, padded_dim], likewise
  float* weights;  // [lines, kKvTile]: scores, then exp(score - max)
  float* decay;    // [lines]: what the arrival of a tile multiplies older sums by
};
AttentionScratch SplitScratch(const AttentionCall& call, int64_t lines, float* memory);

void RunAttention(Device& device, const AttentionRoutines& routines, ConstTensor q, KvLayerView kv,
                  const AttentionBatch& batch, const AttentionParams& params, Tensor out);

}  // namespace pregate

#endif  // PREGATE_KERNELS_CPU_ATTENTION_H_
