// Matrix products: which kernel computes which product.
#include <algorithm>
#include <cassert>
#include <vector>

#include "kernels/cuda/activation_form.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu_device.h"
#include "kernels/cuda/products.h"

namespace pregate::cuda {
namespace {

// A kernel, and what one of its blocks takes.
struct Path {
  void (*launch)(Device& device, DType dtype, int block_rows, const TaskList& list);
  int block_rows;   // of x
  int block_tiles;  // of 32 outputs
};

int32_t CeilDivide(int64_t a, int64_t b) { return static_cast<int32_t>((a + b - 1) / b); }

bool IsHalves(const Product& product) { return product.x.dtype != DType::kF32; }
bool HasManyRows(const Product& product) { return product.x.rows > kMostFewRows; }

// The path of products like this one, of which none has more than `most` rows.
Path PathOf(const Product& product, int64_t most) {
  if (!IsHalves(product)) return {LaunchFloat, most == 1 ? 1 : kFloatRows, 1};
  if (HasManyRows(product)) return {LaunchManyRows, kManyRows, kManyTiles};
  return {LaunchFewRows, most <= 8 ? 8 : most <= 16 ? 16 : kMostFewRows, 1};
}

ProductTask TaskOf(GpuDevice& device, const Product& product, const Path& path) {
  const auto picked = [](absl::Span<const int32_t> tiles, int64_t all) {
    return tiles.empty() ? all : kTileRows * static_cast<int64_t>(tiles.size());
  };
  const PackedWeight& weight = product.weight;
  assert(product.x.cols == picked(product.in_tiles, weight.cols));
  assert(product.out.cols == picked(product.out_tiles, weight.rows));
  assert(product.out.rows == product.x.rows && product.out.dtype == DType::kF32);
  assert(product.out_tiles.empty() || product.bias == nullptr);
  assert(weight.rows < (int64_t{1} << 31) && weight.cols < (int64_t{1} << 31));
  return {
      .x = product.x.data,
      .weight = weight.data,
      .weights = nullptr,
      .row_start = nullptr,
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
      .row_blocks = CeilDivide(product.x.rows, path.block_rows),
      .tile_blocks = CeilDivide(TilesOf(product.out.cols), path.block_tiles),
      .tiles = static_cast<int32_t>(TilesOf(product.out.cols)),
      .accumulate = product.accumulate,
      .aligned =
          reinterpret_cast<uintptr_t>(product.x.data) % 16 == 0 && product.x.stride % 16 == 0,
  };
}

// --- Large products of plain matrices, by a library. ---

constexpr int64_t kLeastBlasRows = 64;

// Multiplies what has been multiplied by the usual scales by what is not usual in them, and adds
// the bias; mostly there is nothing to do.
__global__ void FinishKernel(const float* scales, const float* factor, float usual_factor,
                             const float* bias, int cols, int64_t stride, float* out) {
  const auto row = static_cast<int64_t>(blockIdx.y);
  float scale = __ldg(scales + row) / kUsualScale;
  if (factor != nullptr) scale *= __ldg(factor) / usual_factor;
  if (scale == 1.0f && bias == nullptr) return;
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (column >= cols) return;
  float& result = out[row * stride + column];
  result = __fmul_rn(result, scale) + (bias == nullptr ? 0.0f : __ldg(bias + column));
}

void Finish(Device& device, const Product& product, const float* factor) {
  constexpr int kThreads = 256;
  constexpr int64_t kMostRows = 65535;  // of a grid
  const Tensor& out = product.out;
  const HalfActivations x = HalvesIn(product.x.data, product.x.rows, product.x.cols);
  for (int64_t first = 0; first < out.rows; first += kMostRows) {
    const int64_t rows = std::min(kMostRows, out.rows - first);
    Launch(device, FinishKernel,
           {{Blocks(out.cols, kThreads), static_cast<unsigned>(rows)}, {kThreads}},
           x.scales + first, factor, kUsualBF16Factor, product.bias, static_cast<int>(out.cols),
           out.stride / int64_t{sizeof(float)}, out.Row<float>(first));
  }
}

// False, with nothing issued, where the library does not take the product.
bool MultiplyByLibrary(GpuDevice& device, const Product& product) {
  const PackedWeight& weight = product.weight;
  const bool plain = weight.dtype == DType::kF16 || weight.dtype == DType::kBF16;
  const bool aligned =
      reinterpret_cast<uintptr_t>(product.out.data) % 16 == 0 && product.out.stride % 16 == 0;
  // What is accumulated could not be finished afterwards.
  if (device.blas() == nullptr || !IsHalves(product) || !plain || !aligned || product.accumulate ||
      product.x.rows < kLeastBlasRows || !product.out_tiles.empty() || !product.in_tiles.empty()) {
    return false;
  }
  const bool scaled = weight.dtype == DType::kBF16;
  const HalfActivations x = HalvesIn(product.x.data, product.x.rows, product.x.cols);
  if (!device.blas()->Multiply({.x = x.halves,
                                .weight = weight.data,
                                .out = product.out.Row<float>(0),
                                .out_stride = product.out.stride / int64_t{sizeof(float)},
                                .rows = product.x.rows,
                                .outputs = weight.rows,
                                .depth = weight.cols,
                                .alpha = kUsualScale * (scaled ? kUsualBF16Factor : 1.0f)})) {
    return false;
  }
  const char* const behind = static_cast<const char*>(weight.data) +
                             PlainRowsBytes(weight.dtype, weight.rows, weight.cols);
  Finish(device, product, scaled ? reinterpret_cast<const float*>(behind) : nullptr);
  return true;
}

}  // namespace

void Matmul(Device& device, absl::Span<const Product> products) {
  std::vector<bool> done(products.size());
  for (size_t i = 0; i < products.size(); ++i) {
    done[i] = products[i].x.rows == 0 || MultiplyByLibrary(AsGpu(device), products[i]);
  }
  // Products of one path and type share launches, in their order.
  for (size_t i = 0; i < products.size(); ++i) {
    if (done[i]) continue;
    const DType dtype = products[i].weight.dtype;
    const auto alike = [&](const Product& product) {  // and so on one path
      return product.weight.dtype == dtype && IsHalves(product) == IsHalves(products[i]) &&
             HasManyRows(product) == HasManyRows(products[i]);
    };
    int64_t most = 0;
    for (size_t k = i; k < products.size(); ++k) {
      if (!done[k] && alike(products[k])) most = std::max(most, products[k].x.rows);
    }
    const Path path = PathOf(products[i], most);
    TaskList list = {};
    const auto flush = [&] {
      if (list.count > 0) path.launch(device, dtype, path.block_rows, list);
      list.count = list.blocks = 0;
    };
    for (size_t k = i; k < products.size(); ++k) {
      if (done[k] || !alike(products[k])) continue;
      done[k] = true;
      ProductTask task = TaskOf(AsGpu(device), products[k], path);
      task.first_block = list.blocks;
      list.blocks += task.tile_blocks * task.row_blocks;
      list.tasks[list.count++] = task;
      if (list.count == kMaxTasks) flush();
    }
    flush();
  }
}

void GroupedMatmul(Device& device, absl::Span<const GroupedProduct> products) {
  for (const GroupedProduct& grouped : products) {
    if (grouped.x.rows == 0) continue;
    // An expert's rows as one of a product of all: its blocks start up to three rows early.
    Product product = {.x = grouped.x, .weight = grouped.weights[0], .out = grouped.out};
    const int64_t most = std::min(grouped.max_rows, grouped.x.rows) + kRowAlignment - 1;
    product.x.rows = most;
    const Path path = PathOf(product, most);
    product.x.rows = grouped.x.rows;
    ProductTask task = TaskOf(AsGpu(device), product, path);
    std::vector<const void*> weights;
    for (const PackedWeight& weight : grouped.weights) weights.push_back(weight.data);
    task.weights = AsGpu(device).ResidentList(absl::MakeConstSpan(weights));
    task.row_start = grouped.row_start;
    task.row_blocks = CeilDivide(most, path.block_rows);
    TaskList list = {};
    list.count = 1;
    list.blocks = task.row_blocks * task.tile_blocks * static_cast<int32_t>(weights.size());
    list.tasks[0] = task;
    path.launch(device, grouped.weights[0].dtype, path.block_rows, list);
  }
}

}  // namespace pregate::cuda
