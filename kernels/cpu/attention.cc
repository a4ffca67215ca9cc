#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cassert>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/scratch.h"

namespace pregate {
namespace {

constexpr int64_t kMaxLines = 96;          // enough to hide the conversion of a tile of history
constexpr int64_t kMinLines = 8;           // tiles are not made smaller than this to find more work
constexpr int64_t kReadingLines = 2;       // reading history costs about as much as this many lines
constexpr int64_t kSmallWork = 96 * 1024;  // line-positions x head_dim: some microseconds

// What a thread works in. Kept, because a step of decoding calls attention once for each layer, for
// some microseconds each.
thread_local Scratch<float> thread_scratch;

// What the thread that calls attention plans in.
struct Plan {
  struct Span {
    const RowTile* tile;
    int64_t index;
    int64_t state;  // offset into `states`
  };
  std::vector<RowTile> tiles;
  std::vector<Span> spans;
  Scratch<float> states;
};
thread_local Plan thread_plan;

// Rounded so that every part of the scratch memory starts on a vector's boundary.
int64_t Aligned(int64_t floats) { return (floats + 15) / 16 * 16; }

int64_t ScratchFloats(const AttentionCall& call, int64_t lines) {
  return Aligned(lines * call.kv.head_dim) + Aligned(call.kv.head_dim * kKvTile) +
         Aligned(kKvTile * call.padded_dim) + Aligned(lines * kKvTile) + Aligned(lines);
}

int64_t StateFloats(const AttentionCall& call, int64_t lines) {
  return 2 * Aligned(lines) + Aligned(lines * call.padded_dim);
}

SoftmaxState StateAt(int64_t lines, float* memory) {
  return {memory, memory + Aligned(lines), memory + 2 * Aligned(lines)};
}

int64_t Cost(const AttentionCall& call, const RowTile& tile) {
  return (tile.end - tile.begin) * (tile.rows * call.group + kReadingLines) * call.kv.head_dim;
}

void CutIntoTiles(const AttentionCall& call, int64_t rows_per_tile, std::vector<RowTile>* tiles) {
  tiles->clear();
  for (int32_t s = 0; s < call.batch.num_sequences; ++s) {
    const int64_t last_row = call.batch.row_start[s + 1];
    for (int64_t row = call.batch.row_start[s]; row < last_row; row += rows_per_tile) {
      const int64_t rows = std::min(rows_per_tile, last_row - row);
      const int64_t position = call.batch.context_len[s] - (last_row - row);
      assert(position >= 0);
      const int64_t window = call.params.window;
      const int64_t begin = window > 0 ? std::max<int64_t>(0, position + 1 - window) : 0;
      RowTile tile = {s, 0, row, rows, position, begin, position + rows, 0};
      tile.cost = Cost(call, tile);
      for (int32_t head = 0; head < call.kv.kv_heads; ++head) {
        tile.kv_head = head;
        tiles->push_back(tile);
      }
    }
  }
}

// Large tiles while there are enough of them for every thread.
void PlanTiles(const AttentionCall& call, int threads, std::vector<RowTile>* tiles) {
  int64_t longest = 1;
  for (int32_t s = 0; s < call.batch.num_sequences; ++s) {
    longest = std::max<int64_t>(longest, call.batch.row_start[s + 1] - call.batch.row_start[s]);
  }
  int64_t rows = std::clamp<int64_t>(kMaxLines / call.group, 1, longest);
  CutIntoTiles(call, rows, tiles);
  while (static_cast<int64_t>(tiles->size()) < 4 * threads && threads > 1 && rows > 1 &&
         rows * call.group > kMinLines) {
    rows = (rows + 1) / 2;
    CutIntoTiles(call, rows, tiles);
  }
}

NextSpan SpanOf(const RowTile* tile, int64_t span) {
  return {tile, tile->span_begin(span), tile->span_end(span)};
}

// One thread per tile: walks the tile's spans, merging as it goes.
// `after` is the thread's next tile, or null.
void RunTile(const AttentionCall& call, const AttentionRoutines& routines, const RowTile& tile,
             const RowTile* after) {
  const int64_t lines = tile.rows * call.group;
  const int64_t state_floats = StateFloats(call, lines);
  float* memory = thread_scratch.Get(ScratchFloats(call, lines) + 2 * state_floats);
  const SoftmaxState total = StateAt(lines, memory), next = StateAt(lines, memory + state_floats);
  float* scratch = memory + 2 * state_floats;
  for (int64_t i = 0; i < tile.num_spans(); ++i) {
    const int64_t span = tile.first_span() + i;
    const NextSpan ahead = i + 1 < tile.num_spans() ? SpanOf(&tile, span + 1)
                           : after != nullptr       ? SpanOf(after, after->first_span())
                                                    : NextSpan();
    routines.run_span(call, tile, span, ahead, scratch, i == 0 ? total : next);
    if (i > 0) routines.merge(lines, call.padded_dim, next, total);
  }
  routines.finish(call, tile, total);
}

// Too few tiles to feed the threads: each span is a work item of its own, then tiles are merged.
void RunSplit(Device& device, const AttentionCall& call, const AttentionRoutines& routines,
              Plan* plan) {
  int64_t floats = 0;
  plan->spans.clear();
  for (const RowTile& tile : plan->tiles) {
    for (int64_t i = 0; i < tile.num_spans(); ++i) {
      plan->spans.push_back({&tile, i, floats});
      floats += StateFloats(call, tile.rows * call.group);
    }
  }
  float* const states = plan->states.Get(floats);
  const auto state = [&](const Plan::Span& span) {
    return StateAt(span.tile->rows * call.group, states + span.state);
  };
  const std::vector<Plan::Span>& spans = plan->spans;
  device.ParallelFor(static_cast<int64_t>(spans.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Plan::Span& span = spans[static_cast<size_t>(i)];
      float* scratch = thread_scratch.Get(ScratchFloats(call, span.tile->rows * call.group));
      routines.run_span(call, *span.tile, span.tile->first_span() + span.index, NextSpan(), scratch,
                        state(span));
    }
  });
  const Plan::Span* first = nullptr;
  for (const Plan::Span& span : spans) {
    if (span.index == 0) {
      first = &span;
    } else {
      routines.merge(span.tile->rows * call.group, call.padded_dim, state(span), state(*first));
    }
    if (span.index + 1 == span.tile->num_spans()) {
      routines.finish(call, *span.tile, state(*first));
    }
  }
}

// Consecutive tiles of one item of work: the heads of a sequence lie side by side in memory, and a
// thread asks for its next tile's history while it works on one.
int64_t Grain(int64_t tiles, int64_t kv_heads, int threads) {
  return std::clamp<int64_t>(tiles / (8 * threads), 1, kv_heads);
}

}  // namespace

AttentionScratch SplitScratch(const AttentionCall& call, int64_t lines, float* memory) {
  const auto take = [&memory](int64_t floats) {
    float* part = memory;
    memory += Aligned(floats);
    return part;
  };
  AttentionScratch scratch;
  scratch.queries = take(lines * call.kv.head_dim);
  scratch.keys = take(call.kv.head_dim * kKvTile);
  scratch.values = take(kKvTile * call.padded_dim);
  scratch.weights = take(lines * kKvTile);
  scratch.decay = take(lines);
  return scratch;
}

void RunAttention(Device& device, const AttentionRoutines& routines, ConstTensor q, KvLayerView kv,
                  const AttentionBatch& batch, const AttentionParams& params, Tensor out) {
  assert(IsKvType(kv.dtype));
  assert(params.num_heads % kv.kv_heads == 0);
  assert(q.cols == int64_t{params.num_heads} * kv.head_dim && q.cols == out.cols);
  const int64_t lanes = routines.lanes;
  const AttentionCall call = {.q = q,
                              .kv = kv,
                              .batch = batch,
                              .params = params,
                              .out = out,
                              .group = params.num_heads / kv.kv_heads,
                              .padded_dim = (kv.head_dim + lanes - 1) / lanes * lanes,
                              .row_bytes = RowBytes(kv.dtype, kv.head_dim),
                              .part_bytes = KvPartBytes(kv)};
  const int threads = device.num_threads();
  Plan& plan = thread_plan;
  std::vector<RowTile>& tiles = plan.tiles;
  PlanTiles(call, threads, &tiles);
  const auto count = static_cast<int64_t>(tiles.size());
  int64_t total = 0, dearest = 0;
  for (const RowTile& tile : tiles) {
    total += tile.cost;
    dearest = std::max(dearest, tile.cost);
  }
  const bool alone = threads == 1 || total < kSmallWork;
  if (!alone && count < 2 * threads) {
    RunSplit(device, call, routines, &plan);
    return;
  }
  // The dearest first, so that no thread starts on a long tile when the others are done; where
  // none is long, tiles stay in the order of memory.
  const bool by_cost = !alone && dearest * threads * 8 > total;
  if (by_cost) {
    std::stable_sort(tiles.begin(), tiles.end(),
                     [](const RowTile& a, const RowTile& b) { return a.cost > b.cost; });
  }
  const int64_t grain = alone     ? std::max<int64_t>(1, count)
                        : by_cost ? 1
                                  : Grain(count, kv.kv_heads, threads);
  device.ParallelFor(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const RowTile* tile = &tiles[static_cast<size_t>(i)];
      RunTile(call, routines, *tile, i + 1 < end ? tile + 1 : nullptr);
    }
  });
}

}  // namespace pregate
