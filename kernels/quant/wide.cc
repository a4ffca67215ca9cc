#include "kernels/quant/wide.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "absl/container/inlined_vector.h"
#include "kernels/quant/formats.h"
#include "kernels/scratch.h"
#include "kernels/work_list.h"

namespace pregate {
namespace {

// Pieces of work for each thread, so that a thread that comes late or runs slow holds up few.
constexpr int64_t kPiecesPerThread = 8;

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rounded rows of all products of a call.
thread_local Scratch<char> thread_scratch;

// One x of a call, which several products may share, and where its blocks are.
struct Operand {
  ConstTensor x;
  int64_t offset;  // in groups
  int64_t blocks;
  int64_t groups() const { return x.cols / kWideGroup; }
};
using Operands = absl::InlinedVector<Operand, 4>;

size_t FindOrAdd(const ConstTensor& x, int block_rows, Operands* operands, int64_t* total) {
  for (size_t i = 0; i < operands->size(); ++i) {
    const ConstTensor& known = (*operands)[i].x;
    if (known.data == x.data && known.rows == x.rows && known.cols == x.cols) return i;
  }
  operands->push_back({x, *total, CeilDivide(x.rows, block_rows)});
  *total += operands->back().blocks * operands->back().groups();
  return operands->size() - 1;
}

void QuantizeAll(Device& device, const WideForm& form, const Operands& operands, char* memory) {
  WorkList work;
  for (const Operand& operand : operands) work.Add(operand.blocks, operand.groups());
  work.Run(device, /*grain=*/16, [&](int64_t index, int64_t begin, int64_t end) {
    const Operand& operand = operands[static_cast<size_t>(index)];
    const ConstTensor& x = operand.x;
    for (int64_t block = begin; block < end; ++block) {
      const int64_t row = block * form.rows;
      form.quantize(x.Row<float>(row), x.stride,
                    static_cast<int>(std::min<int64_t>(form.rows, x.rows - row)), operand.groups(),
                    memory + (operand.offset + block * operand.groups()) * form.group_bytes);
    }
  });
}

}  // namespace

int64_t WideBytes(int64_t rows, int64_t cols) {
  return CeilDivide(rows, kWideLanes) * (cols / kWideGroup) *
         static_cast<int64_t>(sizeof(WidePanel));
}

void SetWidePairs(const BlockQ13& block, int lane, void* group) {
  auto* const panel = static_cast<WidePanel*>(group);
  panel->d[lane] = block.d;
  for (int p = 0; p < kWidePairs; ++p) {
    std::memcpy(&panel->pairs[p][lane], block.q + 2 * p, sizeof(int32_t));
  }
}

void PackWide(Device& device, ConstTensor weight, WideLaneSetter set_lane, void* out) {
  assert(weight.dtype == DType::kQ13);
  const int64_t groups = weight.cols / kWideGroup;
  device.ParallelFor(CeilDivide(weight.rows, kWideLanes), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      WidePanel* const panel = static_cast<WidePanel*>(out) + i * groups;
      for (int lane = 0; lane < kWideLanes; ++lane) {
        const int64_t row = std::min(i * kWideLanes + lane, weight.rows - 1);
        for (int64_t g = 0; g < groups; ++g) {
          set_lane(weight.Row<BlockQ13>(row)[g], lane, &panel[g]);
        }
      }
    }
  });
}

void RunWide(Device& device, const WideForm& form, absl::Span<const Product> products) {
  const int64_t tile_rows = int64_t{form.rows} * form.blocks;
  Operands operands;
  int64_t total = 0;
  // Of each product and each of its tiles of rows.
  struct Batch {
    const Product* product;
    size_t operand;
    int64_t first_row;
  };
  absl::InlinedVector<Batch, 16> batches;
  WorkList work;
  for (const Product& product : products) {
    const PackedWeight& weight = product.weight;
    assert(weight.dtype == DType::kQ13 && weight.cols % kWideGroup == 0);
    assert(product.in_tiles.empty() && product.out_tiles.empty());
    assert(product.x.dtype == DType::kF32 && product.x.cols == weight.cols);
    assert(product.out.rows == product.x.rows && product.out.cols == weight.rows);
    const size_t operand = FindOrAdd(product.x, form.rows, &operands, &total);
    for (int64_t row = 0; row < product.x.rows; row += tile_rows) {
      batches.push_back({&product, operand, row});
      const int64_t rows = std::min(tile_rows, product.x.rows - row);
      work.Add(CeilDivide(weight.rows, kWideLanes), (rows + form.rows) * weight.cols);
    }
  }
  char* const memory = thread_scratch.Get(total * form.group_bytes);
  QuantizeAll(device, form, operands, memory);
  const int64_t pieces = device.num_threads() == 1 ? 1 : device.num_threads() * kPiecesPerThread;
  work.Run(device, work.work() / pieces, [&](int64_t index, int64_t begin, int64_t end) {
    const Batch& batch = batches[static_cast<size_t>(index)];
    const Product& product = *batch.product;
    const Operand& operand = operands[batch.operand];
    WideTile tile;
    tile.groups = operand.groups();
    tile.x =
        memory + (operand.offset + batch.first_row / form.rows * tile.groups) * form.group_bytes;
    tile.rows = static_cast<int>(std::min(tile_rows, product.x.rows - batch.first_row));
    tile.out_stride = product.out.stride;
    tile.accumulate = product.accumulate;
    if (form.enter != nullptr) form.enter();
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i * kWideLanes;
      tile.panel = static_cast<const WidePanel*>(product.weight.data) + i * tile.groups;
      tile.bias = product.bias == nullptr ? nullptr : product.bias + column;
      tile.out = product.out.Row<float>(batch.first_row) + column;
      tile.columns = static_cast<int>(std::min<int64_t>(kWideLanes, product.out.cols - column));
      form.multiply(tile);
    }
    if (form.leave != nullptr) form.leave();
  });
}

}  // namespace pregate
