// Matrix products: which kernel computes which product.
#include <algorithm>
#include <cassert>
#include <vector>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu_device.h"
#include "kernels/cuda/products.h"

namespace pregate::cuda {
namespace {

// A kernel and the rows of x that one of its blocks takes.
struct Path {
  void (*launch)(Device& device, DType dtype, int block_rows, const TaskList& list);
  int block_rows;
};

constexpr Path kFloatOneRow = {LaunchFloat, 1};
constexpr Path kFloatManyRows = {LaunchFloat, kFloatRows};

Path PathOf(const Product& product) {
  assert(product.x.dtype == DType::kF32);
  return product.x.rows == 1 ? kFloatOneRow : kFloatManyRows;
}

bool SamePath(const Path& a, const Path& b) {
  return a.launch == b.launch && a.block_rows == b.block_rows;
}

ProductTask TaskOf(GpuDevice& device, const Product& product, int block_rows) {
  const auto picked = [](absl::Span<const int32_t> tiles, int64_t all) {
    return tiles.empty() ? all : kTileRows * static_cast<int64_t>(tiles.size());
  };
  const PackedWeight& weight = product.weight;
  assert(product.x.cols == picked(product.in_tiles, weight.cols));
  assert(product.out.cols == picked(product.out_tiles, weight.rows));
  assert(product.out.rows == product.x.rows && product.out.dtype == DType::kF32);
  assert(product.out_tiles.empty() || product.bias == nullptr);
  return {
      .x = product.x.data,
      .weight = weight.data,
      .out = product.out.Row<float>(0),
      .bias = product.bias,
      .out_tiles = device.ResidentList(product.out_tiles),
      .in_tiles = device.ResidentList(product.in_tiles),
      .x_stride = product.x.stride / int64_t{sizeof(float)},
      .out_stride = product.out.stride / int64_t{sizeof(float)},
      .rows = static_cast<int32_t>(product.x.rows),
      .cols = static_cast<int32_t>(product.x.cols),
      .weight_rows = static_cast<int32_t>(weight.rows),
      .weight_cols = static_cast<int32_t>(weight.cols),
      .first_block = 0,
      .row_blocks = static_cast<int32_t>((product.x.rows + block_rows - 1) / block_rows),
      .tiles = static_cast<int32_t>(TilesOf(product.out.cols)),
      .accumulate = product.accumulate,
      .aligned =
          reinterpret_cast<uintptr_t>(product.x.data) % 16 == 0 && product.x.stride % 16 == 0,
  };
}

}  // namespace

void Matmul(Device& device, absl::Span<const Product> products) {
  // Products of one path and type share launches, in their order.
  std::vector<bool> done(products.size());
  for (size_t i = 0; i < products.size(); ++i) {
    if (done[i] || products[i].x.rows == 0) continue;
    const Path path = PathOf(products[i]);
    const DType dtype = products[i].weight.dtype;
    TaskList list = {};
    const auto flush = [&] {
      if (list.count > 0) path.launch(device, dtype, path.block_rows, list);
      list.count = list.blocks = 0;
    };
    for (size_t k = i; k < products.size(); ++k) {
      const Product& product = products[k];
      if (done[k] || product.x.rows == 0 || product.weight.dtype != dtype ||
          !SamePath(PathOf(product), path)) {
        continue;
      }
      done[k] = true;
      ProductTask task = TaskOf(AsGpu(device), product, path.block_rows);
      task.first_block = list.blocks;
      list.blocks += task.tiles * task.row_blocks;
      list.tasks[list.count++] = task;
      if (list.count == kMaxTasks) flush();
    }
    flush();
  }
}

}  // namespace pregate::cuda
