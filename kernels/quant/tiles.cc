#include "kernels/quant/tiles.h"

#include <algorithm>
#include <cassert>

#include "absl/container/inlined_vector.h"
#include "kernels/quant/panels.h"

namespace pregate {
namespace {

// Pieces of work for each thread, so that a thread that comes late or runs slow holds up few.
constexpr int64_t kPiecesPerThread = 4;
// Rows of a table that a thread looks up at a time: some microseconds.
constexpr int64_t kEmbedGrain = 4;

// One product, ready to be cut into tiles.
struct Job {
  TileFunction run;
  const Product* product;
  int64_t panel_bytes;
  int64_t first_tile;  // in the numbering of all products' tiles
};
using Jobs = absl::InlinedVector<Job, 4>;

void CheckShapes(ConstTensor x, const Product& product) {
  assert(x.cols == product.weight.cols);
  assert(product.out.rows == x.rows && product.out.cols == product.weight.rows);
  assert(product.out.dtype == DType::kF32);
}

}  // namespace

void RunMatmul(Device& device, const TileSet& tiles, ConstTensor x,
               absl::Span<const Product> products) {
  if (x.rows == 0) return;
  const bool integer = x.dtype != DType::kF32;
  const auto& functions = !integer                    ? tiles.floating
                          : x.dtype == DType::kQ16Act ? tiles.q16
                                                      : tiles.q8;
  Jobs jobs;
  int64_t tile_count = 0;
  for (const Product& product : products) {
    CheckShapes(x, product);
    const PackedWeight& weight = product.weight;
    const TileFunction run = functions[static_cast<size_t>(weight.dtype)];
    assert(run != nullptr);
    jobs.push_back({run, &product, PanelBytes(weight.dtype, weight.cols, tiles.lanes), tile_count});
    tile_count += (weight.rows + tiles.lanes - 1) / tiles.lanes;
  }
  const RowBlocks blocks =
      integer ? ActivationMatrix(x).blocks() : RowBlocks(x.rows, kMaxBlockRows);

  const auto run_tile = [&](const Job& job, int64_t index, int64_t block) {
    const Product& product = *job.product;
    const int64_t column = index * tiles.lanes;
    Tile tile;
    tile.panel = static_cast<const char*>(product.weight.data) + index * job.panel_bytes;
    tile.cols = x.cols;
    tile.rows = blocks.Height(block);
    tile.groups = integer ? ActivationMatrix(x).Block(block) : nullptr;
    tile.x = integer ? nullptr : x.Row<float>(blocks.Begin(block));
    tile.x_stride = x.stride;
    tile.bias = product.bias == nullptr ? nullptr : product.bias + column;
    tile.out = product.out.Row<float>(blocks.Begin(block)) + column;
    tile.out_stride = product.out.stride;
    tile.columns = static_cast<int>(std::min<int64_t>(tiles.lanes, product.weight.rows - column));
    job.run(tile);
  };
  const int64_t count = tile_count * blocks.count();
  const int64_t pieces = device.num_threads() == 1 ? 1 : device.num_threads() * kPiecesPerThread;
  device.ParallelFor(count, std::max<int64_t>(1, count / pieces), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t tile = i % tile_count;
      const Job* job = jobs.data();
      while (job + 1 < jobs.data() + jobs.size() && tile >= job[1].first_tile) ++job;
      run_tile(*job, tile - job->first_tile, i / tile_count);
    }
  });
}

void RunEmbed(Device& device, const TileSet& tiles, const PackedWeight& table, const int32_t* ids,
              float scale, Tensor out) {
  assert(out.dtype == DType::kF32 && out.cols == table.cols);
  const auto decode_lane = tiles.decode_lane[static_cast<size_t>(table.dtype)];
  const int64_t panel_bytes = PanelBytes(table.dtype, table.cols, tiles.lanes);
  device.ParallelFor(out.rows, kEmbedGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      assert(ids[r] >= 0 && ids[r] < table.rows);
      const int64_t panel = ids[r] / tiles.lanes;
      float* const row = out.Row<float>(r);
      decode_lane(static_cast<const char*>(table.data) + panel * panel_bytes, table.cols,
                  ids[r] % tiles.lanes, row);
      for (int64_t k = 0; k < out.cols; ++k) row[k] *= scale;
    }
  });
}

}  // namespace pregate
