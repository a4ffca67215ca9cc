#include "kernels/quant/tiles.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <vector>

#include "kernels/quant/q16_act.h"

namespace pregate {
namespace {

// Packed activations of a block stay within this many bytes where K allows: a share of a core's
// level-2 cache, which the weights pass through too.
constexpr int64_t kMaxPackedBytes = 384 << 10;
// Shorter work than this many groups is packed by the caller alone.
constexpr int64_t kPackGrain = 2048;
// Pieces of work for each thread, so that a thread that comes late or runs slow holds up few.
constexpr int64_t kPiecesPerThread = 4;

// x cut into blocks of nearly equal height.
struct RowBlocks {
  int64_t rows;    // all
  int64_t height;  // of every block but perhaps the last
  int64_t count;

  RowBlocks(int64_t rows, int64_t limit) : rows(rows) {
    count = (rows + limit - 1) / limit;
    height = (rows + count - 1) / count;
    count = (rows + height - 1) / height;
  }
  int64_t Begin(int64_t block) const { return block * height; }
  int Height(int64_t block) const {
    return static_cast<int>(std::min(height, rows - block * height));
  }
};

// The rows of a tile that reaches past the last weight row: a copy, the last row repeated.
const uint8_t* PadRows(ConstTensor weight, int64_t first, int lanes, int64_t row_bytes) {
  thread_local std::vector<uint8_t> padded;
  const size_t bytes = static_cast<size_t>(lanes * row_bytes);
  if (padded.size() < bytes) padded.resize(bytes);
  for (int lane = 0; lane < lanes; ++lane) {
    const int64_t row = std::min(first + lane, weight.rows - 1);
    std::memcpy(padded.data() + lane * row_bytes, weight.Row<uint8_t>(row),
                static_cast<size_t>(row_bytes));
  }
  return padded.data();
}

// Runs the kernel over all tiles; set_activations(&tile, block) points a tile at its rows of x.
template <typename SetActivations>
void RunTiles(Device& device, const TileKernel& kernel, const RowBlocks& blocks, ConstTensor weight,
              const float* bias, Tensor out, const SetActivations& set_activations) {
  const int64_t tiles = (weight.rows + kernel.lanes - 1) / kernel.lanes;
  const int64_t count = tiles * blocks.count;
  const int64_t pieces = device.num_threads() == 1 ? 1 : device.num_threads() * kPiecesPerThread;
  const int64_t row_bytes = RowBytes(weight.dtype, weight.cols);
  device.ParallelFor(count, std::max<int64_t>(1, count / pieces), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i / tiles;
      const int64_t n = i % tiles * kernel.lanes;
      Tile tile{};
      tile.cols = weight.cols;
      tile.columns = static_cast<int>(std::min<int64_t>(kernel.lanes, weight.rows - n));
      const bool whole = tile.columns == kernel.lanes;
      tile.weight = whole ? weight.Row<uint8_t>(n) : PadRows(weight, n, kernel.lanes, row_bytes);
      tile.stride = whole ? weight.stride : row_bytes;
      tile.rows = blocks.Height(block);
      tile.bias = bias == nullptr ? nullptr : bias + n;
      tile.out = out.Row<float>(blocks.Begin(block)) + n;
      tile.out_stride = out.stride;
      set_activations(&tile, block);
      kernel.run(tile);
    }
  });
}

// Packs group g of rows [first, first + height) of x.
void PackGroup(const TileKernel& kernel, ConstTensor x, int64_t first, int height, int64_t g,
               ActivationGroup* out) {
  for (int r = 0; r < height; ++r) {
    const Q16ActRow<const char> row(x.Row<char>(first + r), x.cols);
    std::memcpy(out[r].high, row.high() + g * 32, 32);
    std::memcpy(out[r].low, row.low() + g * 32, 32);
    out[r].scale = row.scales()[g];
    const int32_t* sums = row.sums() + g * 2;
    switch (kernel.term) {
      case GroupTerm::kOffset:
        out[r].offset[0] = -kernel.offset * (sums[0] + sums[1]);
        break;
      case GroupTerm::kHalves:
        out[r].offset[0] = -kernel.offset * sums[0];
        out[r].offset[1] = -kernel.offset * sums[1];
        break;
      case GroupTerm::kMinimum:
        out[r].minimum = out[r].scale * static_cast<float>(sums[0] + sums[1]);
        break;
    }
  }
}

void CheckShapes(ConstTensor x, ConstTensor weight, Tensor out) {
  assert(x.cols == weight.cols && out.rows == x.rows && out.cols == weight.rows);
  assert(out.dtype == DType::kF32);
}

}  // namespace

void RunFloatTiles(Device& device, const TileKernel& kernel, ConstTensor x, ConstTensor weight,
                   const float* bias, Tensor out) {
  CheckShapes(x, weight, out);
  assert(x.dtype == DType::kF32);
  if (x.rows == 0) return;
  const RowBlocks blocks(x.rows, kMaxBlockRows);
  RunTiles(device, kernel, blocks, weight, bias, out, [&](Tile* tile, int64_t block) {
    tile->x = x.Row<float>(blocks.Begin(block));
    tile->x_stride = x.stride;
  });
}

void RunIntegerTiles(Device& device, const TileKernel& kernel, ConstTensor x, ConstTensor weight,
                     const float* bias, Tensor out) {
  CheckShapes(x, weight, out);
  assert(x.dtype == DType::kQ16Act && x.cols % 32 == 0);
  if (x.rows == 0) return;
  const int64_t groups = x.cols / 32;
  const int64_t row_bytes = groups * static_cast<int64_t>(sizeof(ActivationGroup));
  const int64_t limit = std::clamp<int64_t>(kMaxPackedBytes / row_bytes, 32, kMaxBlockRows);
  const RowBlocks blocks(x.rows, limit);

  // One buffer for each thread that issues work, which is one thread.
  thread_local std::vector<ActivationGroup> buffer;
  const size_t size = static_cast<size_t>(groups * x.rows);
  if (buffer.size() < size) buffer.resize(size);
  ActivationGroup* const packed = buffer.data();
  const int64_t count = groups * blocks.count;
  const auto pack = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = blocks.Begin(i / groups);
      const int height = blocks.Height(i / groups);
      const int64_t g = i % groups;
      PackGroup(kernel, x, first, height, g, packed + first * groups + g * height);
    }
  };
  if (groups * x.rows < 2 * kPackGrain) {
    pack(0, count);
  } else {
    device.ParallelFor(count, std::max<int64_t>(1, kPackGrain / blocks.height), pack);
  }

  RunTiles(device, kernel, blocks, weight, bias, out, [&](Tile* tile, int64_t block) {
    tile->groups = packed + blocks.Begin(block) * groups;
  });
}

}  // namespace pregate
