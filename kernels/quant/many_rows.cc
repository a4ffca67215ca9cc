#include "kernels/quant/many_rows.h"

#include <algorithm>
#include <cassert>

#include "absl/container/inlined_vector.h"
#include "kernels/quant/panels.h"
#include "kernels/scratch.h"
#include "kernels/work_list.h"

namespace pregate {
namespace {

constexpr int kPanelRows = 16;
constexpr int kUnitColumns = kManyPanels * kPanelRows;
constexpr int kBlockSums = kTileRows * kUnitColumns;
// What decoding four panels costs, in blocks of rows that meet them.
constexpr int64_t kDecodingBlocks = 1;
// Blocks of rows that meet decoded weights at most: their sums stay in the level-1 cache.
constexpr int64_t kMaxBlocks = 6;
// What rows may take of a core's level-2 cache.
constexpr int64_t kMaxRowsBytes = 1200 << 10;
// Pieces of work for each thread, so that a thread that comes late or runs slow holds up few.
constexpr int64_t kPiecesPerThread = 8;

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of all products of a call as tiles, and a thread's sums.
thread_local Scratch<TileRows> thread_rows;
thread_local Scratch<float> thread_sums;

// One x of a call in one form, which several products may share, and where its tiles are.
struct Operand {
  ConstTensor x;
  TileForm form;
  int64_t offset;  // of thread_rows
  int64_t blocks() const { return CeilDivide(x.rows, kTileRows); }
  int64_t depth() const { return x.cols / 32; }
};
using Operands = absl::InlinedVector<Operand, 4>;

const ManyRows& ManyRowsOf(const ManyRowsSet& set, const Product& product) {
  const auto type = static_cast<size_t>(product.weight.dtype);
  return product.x.dtype == DType::kQ16Act ? set.q16[type] : set.q8[type];
}

size_t FindOrAdd(const ConstTensor& x, TileForm form, Operands* operands, int64_t* total) {
  for (size_t i = 0; i < operands->size(); ++i) {
    const Operand& known = (*operands)[i];
    if (known.x.data == x.data && known.x.rows == x.rows && known.x.cols == x.cols &&
        known.form == form) {
      return i;
    }
  }
  operands->push_back({x, form, *total});
  *total += operands->back().blocks() * operands->back().depth();
  return operands->size() - 1;
}

void MakeRows(const ManyRowsSet& set, const Operand& operand, int64_t block, TileRows* out) {
  const ActivationMatrix matrix(operand.x);
  const ActivationGroup* first[kTileRows];
  int64_t step[kTileRows];
  const int64_t row = block * kTileRows;
  const int rows = static_cast<int>(std::min<int64_t>(kTileRows, operand.x.rows - row));
  for (int r = 0; r < rows; ++r) {
    first[r] = &matrix.Group(row + r, 0);
    step[r] = matrix.blocks().Height((row + r) / matrix.blocks().height());
  }
  set.make_rows[static_cast<size_t>(operand.form)](first, step, rows, operand.depth(), out);
}

// Rows of a product that meet decoded weights at once.
struct Strip {
  const Product* product;
  const Operand* operand;
  int64_t first_block;
  int blocks;
};

class ManyRowsCall {
 public:
  ManyRowsCall(const ManyRowsSet& set, absl::Span<const Product> products) : set_(set) {
    absl::InlinedVector<size_t, 4> operand_of;
    for (const Product& product : products) {
      operand_of.push_back(
          FindOrAdd(product.x, ManyRowsOf(set, product).form, &operands_, &tiles_));
    }
    // Strips of one x follow each other: a thread's share of the work finds it in the cache.
    for (size_t i = 0; i < operands_.size(); ++i) {
      const Operand& operand = operands_[i];
      const int64_t most = MaxBlocks(operand.depth());
      const int64_t strips = CeilDivide(operand.blocks(), most);
      const int64_t height = CeilDivide(operand.blocks(), strips);
      for (int64_t block = 0; block < operand.blocks(); block += height) {
        const int blocks = static_cast<int>(std::min(height, operand.blocks() - block));
        for (size_t p = 0; p < products.size(); ++p) {
          if (operand_of[p] != i) continue;
          strips_.push_back({&products[p], &operand, block, blocks});
          work_.Add(CeilDivide(products[p].out.cols, kUnitColumns),
                    (blocks + kDecodingBlocks) * operand.depth());
        }
      }
    }
  }

  void Run(Device& device) const {
    TileRows* const memory = thread_rows.Get(tiles_);
    WorkList making;
    for (const Operand& operand : operands_) making.Add(operand.blocks(), operand.depth());
    making.Run(device, /*grain=*/16, [&](int64_t index, int64_t begin, int64_t end) {
      const Operand& operand = operands_[static_cast<size_t>(index)];
      for (int64_t block = begin; block < end; ++block) {
        MakeRows(set_, operand, block, memory + operand.offset + block * operand.depth());
      }
    });
    const int64_t pieces = device.num_threads() == 1 ? 1 : device.num_threads() * kPiecesPerThread;
    work_.Run(device, work_.work() / pieces, [&](int64_t strip, int64_t begin, int64_t end) {
      set_.enter();
      RunUnits(strips_[static_cast<size_t>(strip)], begin, end, memory);
      set_.leave();
    });
  }

 private:
  static int64_t MaxBlocks(int64_t depth) {
    const int64_t block_bytes = depth * static_cast<int64_t>(sizeof(TileRows));
    return std::clamp<int64_t>(kMaxRowsBytes / std::max<int64_t>(1, block_bytes), 2, kMaxBlocks);
  }

  void RunUnits(const Strip& strip, int64_t begin, int64_t end, const TileRows* memory) const {
    for (int64_t unit = begin; unit < end; ++unit) {
      ManyTile tile = TileOf(strip, unit, memory);
      tile.sums = thread_sums.Get(strip.blocks * kBlockSums);
      ManyRowsOf(set_, *strip.product).multiply(tile);
    }
  }

  ManyTile TileOf(const Strip& strip, int64_t unit, const TileRows* memory) const {
    const Product& product = *strip.product;
    const Operand& operand = *strip.operand;
    const int64_t column = unit * kUnitColumns;
    const int64_t row = strip.first_block * kTileRows;
    ManyTile tile = {};
    for (int p = 0; p < kManyPanels; ++p) {
      tile.panels[p] = PanelOf(product, column + p * kPanelRows);
    }
    tile.depth = operand.depth();
    tile.x = memory + operand.offset + strip.first_block * tile.depth;
    tile.blocks = strip.blocks;
    tile.rows = static_cast<int>(
        std::min<int64_t>(int64_t{strip.blocks} * kTileRows, product.x.rows - row));
    tile.bias = product.bias == nullptr ? nullptr : product.bias + column;
    tile.out = product.out.Row<float>(row) + column;
    tile.out_stride = product.out.stride;
    tile.columns = static_cast<int>(std::min<int64_t>(kUnitColumns, product.out.cols - column));
    tile.accumulate = product.accumulate;
    return tile;
  }

  // The panel for 16 columns of the output; the last one for what is behind the output.
  static const void* PanelOf(const Product& product, int64_t column) {
    const PackedWeight& weight = product.weight;
    int64_t panel = std::min(column, product.out.cols - 1) / kPanelRows;
    if (!product.out_tiles.empty()) {
      panel = 2 * int64_t{product.out_tiles[static_cast<size_t>(panel / 2)]} + panel % 2;
    }
    return static_cast<const char*>(weight.data) +
           panel * PanelBytes(weight.dtype, weight.cols, kPanelRows);
  }

  const ManyRowsSet& set_;
  Operands operands_;
  int64_t tiles_ = 0;
  absl::InlinedVector<Strip, 8> strips_;
  WorkList work_;
};

}  // namespace

bool HasManyRows(const ManyRowsSet& set, const Product& product) {
  if (product.x.dtype == DType::kF32 || product.weight.by_tiles) return false;
  const ManyRows& many = ManyRowsOf(set, product);
  return many.multiply != nullptr && product.x.rows >= many.fewest_rows;
}

void RunManyRows(Device& device, const ManyRowsSet& set, absl::Span<const Product> products) {
  if (products.empty()) return;
  ManyRowsCall(set, products).Run(device);
}

}  // namespace pregate
