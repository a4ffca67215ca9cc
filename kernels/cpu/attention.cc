#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

namespace pregate {
namespace {

constexpr int64_t kMaxLines = 96;     // enough to hide the packing of a tile of keys and values
constexpr int64_t kMinLines = 8;      // tiles are not made smaller than this to find more work
constexpr int64_t kPackingLines = 8;  // packing costs about as much as this many lines
constexpr int64_t kSmallWork = 64 * 1024;  // line-positions x head_dim: some microseconds

// 64-byte aligned memory of this thread, kept between calls.
float* ThreadScratch(size_t floats) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local size_t size = 0;
  if (floats > size) {
    memory.reset();
    memory.reset(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64));
    assert(memory != nullptr);
    size = floats;
  }
  return static_cast<float*>(memory.get());
}

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

std::vector<RowTile> CutIntoTiles(const AttentionCall& call, int64_t rows_per_tile) {
  std::vector<RowTile> tiles;
  for (int32_t s = 0; s < call.batch.num_sequences; ++s) {
    const int64_t last_row = call.batch.row_start[s + 1];
    for (int64_t row = call.batch.row_start[s]; row < last_row; row += rows_per_tile) {
      const int64_t rows = std::min(rows_per_tile, last_row - row);
      const int64_t position = call.batch.context_len[s] - (last_row - row);
      assert(position >= 0);
      const int64_t window = call.params.window;
      const int64_t begin = window > 0 ? std::max<int64_t>(0, position + 1 - window) : 0;
      for (int32_t head = 0; head < call.kv.kv_heads; ++head) {
        tiles.push_back({s, head, row, rows, position, begin, position + rows});
      }
    }
  }
  return tiles;
}

// Large tiles while there are enough of them for every thread.
std::vector<RowTile> PlanTiles(const AttentionCall& call, int threads) {
  int64_t longest = 1;
  for (int32_t s = 0; s < call.batch.num_sequences; ++s) {
    longest = std::max<int64_t>(longest, call.batch.row_start[s + 1] - call.batch.row_start[s]);
  }
  int64_t rows = std::clamp<int64_t>(kMaxLines / call.group, 1, longest);
  std::vector<RowTile> tiles = CutIntoTiles(call, rows);
  while (static_cast<int64_t>(tiles.size()) < 4 * threads && threads > 1 && rows > 1 &&
         rows * call.group > kMinLines) {
    rows = (rows + 1) / 2;
    tiles = CutIntoTiles(call, rows);
  }
  return tiles;
}

int64_t Cost(const AttentionCall& call, const RowTile& tile) {
  return (tile.end - tile.begin) * (tile.rows * call.group + kPackingLines) * call.kv.head_dim;
}

// One thread per tile: walks the tile's spans, merging as it goes.
void RunTile(const AttentionCall& call, const AttentionRoutines& routines, const RowTile& tile) {
  const int64_t lines = tile.rows * call.group;
  const int64_t state_floats = StateFloats(call, lines);
  float* memory = ThreadScratch(static_cast<size_t>(ScratchFloats(call, lines) + 2 * state_floats));
  const SoftmaxState total = StateAt(lines, memory), next = StateAt(lines, memory + state_floats);
  float* scratch = memory + 2 * state_floats;
  routines.run_span(call, tile, tile.first_span(), scratch, total);
  for (int64_t i = 1; i < tile.num_spans(); ++i) {
    routines.run_span(call, tile, tile.first_span() + i, scratch, next);
    routines.merge(lines, call.padded_dim, next, total);
  }
  routines.finish(call, tile, total);
}

// Too few tiles to feed the threads: each span is a work item of its own, then tiles are merged.
void RunSplit(Device& device, const AttentionCall& call, const AttentionRoutines& routines,
              const std::vector<RowTile>& tiles) {
  struct Span {
    const RowTile* tile;
    int64_t index;
    int64_t state;  // offset into `states`
  };
  std::vector<Span> spans;
  int64_t floats = 0;
  for (const RowTile& tile : tiles) {
    for (int64_t i = 0; i < tile.num_spans(); ++i) {
      spans.push_back({&tile, i, floats});
      floats += StateFloats(call, tile.rows * call.group);
    }
  }
  const std::unique_ptr<float[]> states(new float[static_cast<size_t>(floats)]);
  const auto state = [&](const Span& span) {
    return StateAt(span.tile->rows * call.group, states.get() + span.state);
  };
  const auto count = static_cast<int64_t>(spans.size());
  device.ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Span& span = spans[static_cast<size_t>(i)];
      const int64_t lines = span.tile->rows * call.group;
      float* scratch = ThreadScratch(static_cast<size_t>(ScratchFloats(call, lines)));
      routines.run_span(call, *span.tile, span.tile->first_span() + span.index, scratch,
                        state(span));
    }
  });
  const Span* first = nullptr;
  for (const Span& span : spans) {
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
  assert(kv.dtype == DType::kF32 || kv.dtype == DType::kF16 || kv.dtype == DType::kQ8_0);
  assert(params.num_heads % kv.kv_heads == 0);
  assert(q.cols == int64_t{params.num_heads} * kv.head_dim && q.cols == out.cols);
  const int64_t lanes = routines.lanes;
  const AttentionCall call = {.q = q,
                              .kv = kv,
                              .batch = batch,
                              .params = params,
                              .out = out,
                              .group = params.num_heads / kv.kv_heads,
                              .padded_dim = (kv.head_dim + lanes - 1) / lanes * lanes};
  const int threads = device.num_threads();
  std::vector<RowTile> tiles = PlanTiles(call, threads);
  // The dearest first, so that no thread starts on a long tile when the others are done.
  std::stable_sort(tiles.begin(), tiles.end(), [&](const RowTile& a, const RowTile& b) {
    return Cost(call, a) > Cost(call, b);
  });
  const int64_t cost =
      std::accumulate(tiles.begin(), tiles.end(), int64_t{0},
                      [&](int64_t sum, const RowTile& tile) { return sum + Cost(call, tile); });
  const auto count = static_cast<int64_t>(tiles.size());
  const bool small = cost < kSmallWork;
  if (!small && threads > 1 && count < 2 * threads) {
    RunSplit(device, call, routines, tiles);
    return;
  }
  device.ParallelFor(count, small ? std::max<int64_t>(1, count) : 1,
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i) {
                         RunTile(call, routines, tiles[static_cast<size_t>(i)]);
                       }
                     });
}

}  // namespace pregate
