// Attention of encoders on a CPU: which thread works on which rows of which head.
//
// As in attention.h, a row's arithmetic is fixed by its sequence alone: the rows that it sees are
// met in tiles of kKvTile from the sequence's first on, each one step of the online softmax.
#ifndef PREGATE_KERNELS_CPU_SELF_ATTENTION_H_
#define PREGATE_KERNELS_CPU_SELF_ATTENTION_H_

#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/kernels.h"

namespace pregate {

// Rows of a sequence, for one head.
struct SelfTile {
  int64_t begin, end;  // the sequence's rows
  int64_t first_row;
  int64_t rows;
  int64_t head;
};

struct SelfCall {
  SelfAttention of;
  int64_t dim;         // of a head
  int64_t padded_dim;  // rounded up to whole vectors
};

// What an instruction set provides: the tile's outputs. `scratch` is for as many lines as it has
// rows; `state` is as well, with one line for each row.
using SelfTileFunction = void (*)(const SelfCall&, const SelfTile&, const AttentionScratch& scratch,
                                  SoftmaxState state);

void RunSelfAttention(Device& device, int lanes, SelfTileFunction run, const SelfAttention& call);

}  // namespace pregate

#endif  // PREGATE_KERNELS_CPU_SELF_ATTENTION_H_
