#include "kernels/cpu/self_attention.h"

#include <algorithm>
#include <cassert>
#include <vector>

#include "kernels/scratch.h"

namespace pregate {
namespace {

constexpr int64_t kMostRows = 96;  // of a tile: enough to hide the turning of keys

// What a thread works in.
thread_local Scratch<float> thread_scratch;
thread_local std::vector<SelfTile> thread_tiles;

int64_t Aligned(int64_t floats) { return (floats + 15) / 16 * 16; }

// Hands out parts of `memory`, or, without one, counts what they take.
struct Parts {
  float* memory;
  int64_t floats = 0;
  float* Take(int64_t count) {
    float* const part = memory == nullptr ? nullptr : memory + floats;
    floats += Aligned(count);
    return part;
  }
};

int64_t Split(const SelfCall& call, int64_t lines, float* memory, AttentionScratch* scratch,
              SoftmaxState* state) {
  Parts parts = {memory};
  scratch->queries = parts.Take(lines * call.dim);
  scratch->keys = parts.Take(call.padded_dim * kKvTile);
  scratch->values = parts.Take(kKvTile * call.padded_dim);
  scratch->weights = parts.Take(lines * kKvTile);
  scratch->decay = parts.Take(lines);
  state->max = parts.Take(lines);
  state->sum = parts.Take(lines);
  state->mix = parts.Take(lines * call.padded_dim);
  return parts.floats;
}

// Tiles of nearly equal height.
void CutIntoTiles(const SelfAttention& of, std::vector<SelfTile>* tiles) {
  tiles->clear();
  for (size_t s = 0; s + 1 < of.row_start.size(); ++s) {
    const int64_t begin = of.row_start[s], end = of.row_start[s + 1];
    const int64_t count = (end - begin + kMostRows - 1) / kMostRows;
    for (int64_t head = 0; head < of.num_heads; ++head) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t first = begin + (end - begin) * i / count;
        const int64_t last = begin + (end - begin) * (i + 1) / count;
        tiles->push_back({begin, end, first, last - first, head});
      }
    }
  }
}

}  // namespace

void RunSelfAttention(Device& device, int lanes, SelfTileFunction run, const SelfAttention& of) {
  assert(of.q.cols == of.out.cols && of.k.cols == of.out.cols && of.v.cols == of.out.cols);
  assert(of.out.cols % of.num_heads == 0 && of.row_start.back() == of.out.rows);
  const int64_t dim = of.out.cols / of.num_heads;
  const SelfCall call = {of, dim, (dim + lanes - 1) / lanes * lanes};
  std::vector<SelfTile>& tiles = thread_tiles;
  CutIntoTiles(of, &tiles);
  // The heaviest first, so that no thread starts on one when the others are done.
  std::stable_sort(tiles.begin(), tiles.end(), [](const SelfTile& a, const SelfTile& b) {
    return a.rows * (a.end - a.begin) > b.rows * (b.end - b.begin);
  });
  const auto count = static_cast<int64_t>(tiles.size());
  const int64_t grain = std::max<int64_t>(1, count / (16 * device.num_threads()));
  device.ParallelFor(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const SelfTile& tile = tiles[static_cast<size_t>(i)];
      AttentionScratch scratch;
      SoftmaxState state;
      const int64_t floats = Split(call, tile.rows, nullptr, &scratch, &state);
      float* const memory = thread_scratch.Get(floats);
      Split(call, tile.rows, memory, &scratch, &state);
      run(call, tile, scratch, state);
    }
  });
}

}  // namespace pregate
