#include "kernels/quant/tiles.h"

#include <algorithm>
#include <cassert>

#include "absl/container/inlined_vector.h"
#include "kernels/quant/panels.h"
#include "kernels/quant/tile_plan.h"

namespace pregate {
namespace {

// Pieces of work for each thread, so that a thread that comes late or runs slow holds up few.
constexpr int64_t kPiecesPerThread = 8;
// Rows of a table that a thread looks up at a time: some microseconds.
constexpr int64_t kEmbedGrain = 4;

void RunTiles(Device& device, const TileSet& tiles, absl::Span<const Product> products) {
  const TilePlan plan(tiles, device.num_threads(), products);
  const int64_t pieces = device.num_threads() == 1 ? 1 : device.num_threads() * kPiecesPerThread;
  plan.work().Run(device, plan.work().work() / pieces,
                  [&](int64_t batch, int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) plan.RunUnit(batch, i);
                  });
}

}  // namespace

void RunMatmul(Device& device, const TileSet& tiles, absl::Span<const Product> products) {
  const auto is_wide = [](const Product& product) { return product.weight.dtype == DType::kQ13; };
  const auto has_many_rows = [&](const Product& product) {
    return tiles.many_rows != nullptr && !is_wide(product) &&
           HasManyRows(*tiles.many_rows, product);
  };
  const auto others = [&](const Product& product) {
    return !is_wide(product) && !has_many_rows(product);
  };
  if (std::all_of(products.begin(), products.end(), others)) {
    return RunTiles(device, tiles, products);
  }
  absl::InlinedVector<Product, 4> sorted(products.begin(), products.end());
  const auto wide_end = std::stable_partition(sorted.begin(), sorted.end(), is_wide);
  const auto many_end = std::stable_partition(wide_end, sorted.end(), has_many_rows);
  const auto part = [](auto begin, auto end) {
    return absl::MakeConstSpan(begin, static_cast<size_t>(end - begin));
  };
  RunWide(device, tiles.wide, part(sorted.begin(), wide_end));
  if (wide_end != many_end) RunManyRows(device, *tiles.many_rows, part(wide_end, many_end));
  RunTiles(device, tiles, part(many_end, sorted.end()));
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
