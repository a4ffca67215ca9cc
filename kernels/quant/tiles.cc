#include "kernels/quant/tiles.h"

#include <algorithm>
#include <cassert>
#include <functional>

#include "absl/container/inlined_vector.h"
#include "kernels/quant/panels.h"
#include "kernels/quant/tile_plan.h"

namespace pregate {
namespace {

// Pieces of work for each thread, so that a thread that comes late or runs slow holds up few.
constexpr int64_t kPiecesPerThread = 8;
// Rows of a table that a thread looks up at a time: some microseconds.
constexpr int64_t kEmbedGrain = 4;

void RunTiles(Device& device, const TileSet& tiles, absl::Span<const Product* const> products) {
  if (products.empty()) return;
  const TilePlan plan(tiles, device.num_threads(), products);
  const int64_t pieces = device.num_threads() == 1 ? 1 : device.num_threads() * kPiecesPerThread;
  plan.work().Run(device, plan.work().work() / pieces,
                  [&](int64_t batch, int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) plan.RunUnit(batch, i);
                  });
}

}  // namespace

void RunMatmul(Device& device, const TileSet& tiles, absl::Span<const Product> products) {
  absl::InlinedVector<const Product*, 8> order, many, few;
  absl::InlinedVector<Product, 4> wide;
  for (const Product& product : products) order.push_back(&product);
  std::sort(order.begin(), order.end(), [](const Product* a, const Product* b) {
    const void *x = a->weight.data, *y = b->weight.data;
    return x == y ? a < b : std::less<>()(x, y);
  });
  for (auto first = order.begin(), next = first; first != order.end(); first = next) {
    const auto of_another = [&](const Product* p) {
      return p->weight.data != (*first)->weight.data;
    };
    next = std::find_if(first, order.end(), of_another);
    const auto these = absl::MakeConstSpan(&*first, static_cast<size_t>(next - first));
    if ((*first)->weight.dtype == DType::kQ13) {
      for (const Product* product : these) wide.push_back(*product);
    } else if (tiles.many_rows != nullptr && HasManyRows(*tiles.many_rows, these)) {
      many.insert(many.end(), first, next);
    } else {
      few.insert(few.end(), first, next);
    }
  }
  if (!wide.empty()) RunWide(device, tiles.wide, wide);
  if (!many.empty()) RunManyRows(device, *tiles.many_rows, many);
  RunTiles(device, tiles, few);
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
