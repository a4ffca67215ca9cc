#include "kernels/quant/many_rows.h"

#include <algorithm>
#include <bit>
#include <deque>

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
// What rows may take of a core's level-2 cache.
constexpr int64_t kMaxRowsBytes = 1200 << 10;
// Pieces of work for each thread, so that a thread that comes late or runs slow holds up few.
constexpr int64_t kPiecesPerThread = 8;
// Products of one weight are bits of a word.
constexpr size_t kMaxJoined = 64;

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of all products of a call as tiles, and a thread's sums.
thread_local Scratch<TileRows> thread_rows;
thread_local Scratch<float> thread_sums;

using Products = absl::Span<const Product* const>;  // of one weight

const ManyRows& ManyRowsOf(const ManyRowsSet& set, const Product& product) {
  const auto type = static_cast<size_t>(product.weight.dtype);
  return product.x.dtype == DType::kQ16Act ? set.q16[type] : set.q8[type];
}

// Where a tile stands in a list, which may be empty and hold all; -1: it does not.
int64_t PlaceOf(int32_t tile, absl::Span<const int32_t> list) {
  if (list.empty()) return tile;
  const auto at = std::lower_bound(list.begin(), list.end(), tile);
  return at == list.end() || *at != tile ? -1 : at - list.begin();
}

// Bit i of [tile]: the list of product i has it. Empty: nobody has a list.
using Pickers = absl::InlinedVector<uint64_t, 64>;
Pickers PickersOf(Products products, absl::Span<const int32_t> Product::*list, int64_t tiles) {
  const auto all = [&](const Product* product) { return (product->*list).empty(); };
  if (std::all_of(products.begin(), products.end(), all)) return {};
  Pickers pickers(static_cast<size_t>(tiles), 0);
  for (size_t i = 0; i < products.size(); ++i) {
    for (const int32_t tile : products[i]->*list) {
      pickers[static_cast<size_t>(tile)] |= uint64_t{1} << i;
    }
    for (size_t tile = 0; all(products[i]) && tile < pickers.size(); ++tile) {
      pickers[tile] |= uint64_t{1} << i;
    }
  }
  return pickers;
}

// The rows of products of one weight, one product's behind another's, in blocks of kTileRows.
class JoinedRows {
 public:
  explicit JoinedRows(Products products) : starts_({0}) {
    for (const Product* product : products) starts_.push_back(starts_.back() + product->x.rows);
    products_.resize(static_cast<size_t>(CeilDivide(starts_.back(), kTileRows)), 0);
    for (size_t i = 0; i < products.size(); ++i) {
      if (products[i]->x.rows == 0) continue;
      for (int64_t b = starts_[i] / kTileRows; b <= (starts_[i + 1] - 1) / kTileRows; ++b) {
        products_[static_cast<size_t>(b)] |= uint64_t{1} << i;
      }
    }
  }

  int64_t blocks() const { return static_cast<int64_t>(products_.size()); }
  // Where the rows of a product begin; of the one behind the last: where its rows end.
  int64_t Start(size_t product) const { return starts_[product]; }
  // Bit i: some rows of the block are product i's.
  uint64_t ProductsOf(int64_t block) const { return products_[static_cast<size_t>(block)]; }
  uint64_t ProductsOf(int64_t block, int blocks) const {
    uint64_t all = 0;
    for (int b = 0; b < blocks; ++b) all |= ProductsOf(block + b);
    return all;
  }

 private:
  absl::InlinedVector<int64_t, 8> starts_;
  absl::InlinedVector<uint64_t, 8> products_;
};

// Rows in one form, which products of several weights may share, and where their tiles are.
struct Operand {
  Products products;
  JoinedRows rows;
  TileForm form;
  Pickers columns;  // who picks which columns of the weight
  // Of the weight's columns those that somebody picks, where there are lists.
  absl::InlinedVector<int32_t, 64> tiles;
  int64_t depth;
  int64_t offset;  // of thread_rows: [blocks][depth]
};

Operand MakeOperand(Products products, TileForm form, int64_t offset) {
  Operand operand = {products, JoinedRows(products),     form,  {},
                     {},       products[0]->x.cols / 32, offset};
  operand.columns = PickersOf(products, &Product::in_tiles, products[0]->weight.cols / 32);
  if (operand.columns.empty()) return operand;
  for (size_t tile = 0; tile < operand.columns.size(); ++tile) {
    if (operand.columns[tile] != 0) operand.tiles.push_back(static_cast<int32_t>(tile));
  }
  operand.depth = static_cast<int64_t>(operand.tiles.size());
  return operand;
}

bool SameRows(Products a, Products b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Product* p, const Product* q) {
    return p->x.data == q->x.data && p->x.rows == q->x.rows && p->x.cols == q->x.cols &&
           p->in_tiles.data() == q->in_tiles.data() && p->in_tiles.size() == q->in_tiles.size();
  });
}

// Groups [begin, end) of a block.
void MakeBlock(const ManyRowsSet& set, const Operand& operand, int64_t block, int64_t begin,
               int64_t end, TileRows* out) {
  const ActivationGroup* first[kTileRows];
  int64_t step[kTileRows];
  size_t product[kTileRows];
  int rows = 0;
  for (size_t i = 0; i < operand.products.size(); ++i) {
    if ((operand.rows.ProductsOf(block) >> i & 1) == 0) continue;
    const ActivationMatrix matrix(operand.products[i]->x);
    const int64_t start = operand.rows.Start(i);
    const int64_t last = std::min(operand.rows.Start(i + 1), (block + 1) * kTileRows);
    for (int64_t row = block * kTileRows + rows - start; row < last - start; ++row, ++rows) {
      product[rows] = i;
      first[rows] = &matrix.Group(row, 0);
      step[rows] = matrix.blocks().Height(row / matrix.blocks().height());
    }
  }
  const auto make = set.make_rows[static_cast<size_t>(operand.form)];
  for (int64_t group = begin; group < end; ++group) {
    const ActivationGroup* x[kTileRows];
    if (operand.columns.empty()) {
      for (int r = 0; r < rows; ++r) x[r] = first[r] + group * step[r];
    } else {
      const int32_t tile = operand.tiles[static_cast<size_t>(group)];
      int64_t place = -1;
      for (int r = 0; r < rows; ++r) {
        if (r == 0 || product[r] != product[r - 1]) {
          place = PlaceOf(tile, operand.products[product[r]]->in_tiles);
        }
        x[r] = place < 0 ? nullptr : first[r] + place * step[r];
      }
    }
    make(x, rows, out + group);
  }
}

// Two tiles of 32 rows of the weight, or one: numbers of them all, or places among those that
// somebody picks.
struct Unit {
  int32_t first;
  int32_t count;
};

// Rows of the products of one weight that meet decoded weights at once.
struct Strip {
  Products products;
  const Operand* operand;
  Pickers pickers;  // who picks which rows of the weight
  int64_t first_block;
  int blocks;
  absl::InlinedVector<int32_t, 64> out_tiles;  // that somebody of them picks, where there are lists
  absl::InlinedVector<ManyStep, 64> steps;     // of a weight that is packed by tiles
  absl::InlinedVector<Unit, 32> units;
  const PackedWeight& weight() const { return products[0]->weight; }
};

using Outputs = absl::InlinedVector<ManyOutputs, 8>;

class ManyRowsCall {
 public:
  // `threads`: among whom the work will be shared out.
  ManyRowsCall(const ManyRowsSet& set, int threads, Products products) : set_(set) {
    absl::InlinedVector<Products, 4> weights;
    absl::InlinedVector<size_t, 4> operand_of;
    for (size_t first = 0, next; first < products.size(); first = next) {
      const auto data = [&](size_t i) { return products[i]->weight.data; };
      for (next = first + 1; next < products.size() && data(next) == data(first);) ++next;
      weights.push_back(products.subspan(first, next - first));
      operand_of.push_back(FindOrAdd(weights.back()));
    }
    // Strips of the same rows follow each other: a thread's share of the work finds them in the
    // cache.
    for (size_t i = 0; i < operands_.size(); ++i) {
      const Operand& operand = operands_[i];
      const int64_t all = operand.rows.blocks();
      const int64_t height = CeilDivide(all, CeilDivide(all, MaxBlocks(operand.depth)));
      for (int64_t block = 0; block < all; block += height) {
        const int blocks = static_cast<int>(std::min(height, all - block));
        for (size_t w = 0; w < weights.size(); ++w) {
          if (operand_of[w] == i) AddStrip(weights[w], operand, block, blocks);
        }
      }
    }
    AddWork(threads);
  }

  void Run(Device& device) const {
    TileRows* const memory = thread_rows.Get(tiles_);
    WorkList making;
    for (const Operand& operand : operands_) making.Add(operand.rows.blocks() * operand.depth, 1);
    making.Run(device, /*grain=*/16, [&](int64_t index, int64_t begin, int64_t end) {
      const Operand& operand = operands_[static_cast<size_t>(index)];
      for (int64_t block = begin / operand.depth; block * operand.depth < end; ++block) {
        const int64_t first = block * operand.depth;
        MakeBlock(set_, operand, block, std::max(begin - first, int64_t{0}),
                  std::min(end - first, operand.depth), memory + operand.offset + first);
      }
    });
    const int64_t pieces = device.num_threads() == 1 ? 1 : device.num_threads() * kPiecesPerThread;
    work_.Run(device, work_.work() / pieces, [&](int64_t index, int64_t begin, int64_t end) {
      const Strip& strip = strips_[static_cast<size_t>(index)];
      set_.enter();
      for (int64_t unit = begin; unit < end; ++unit) {
        RunUnit(strip, strip.units[static_cast<size_t>(unit)], memory);
      }
      set_.leave();
    });
  }

 private:
  static int64_t MaxBlocks(int64_t depth) {
    const int64_t block_bytes = depth * static_cast<int64_t>(sizeof(TileRows));
    return std::clamp<int64_t>(kMaxRowsBytes / std::max<int64_t>(1, block_bytes), 2,
                               kMaxManyBlocks);
  }

  size_t FindOrAdd(Products products) {
    const TileForm form = ManyRowsOf(set_, *products[0]).form;
    for (size_t i = 0; i < operands_.size(); ++i) {
      if (operands_[i].form == form && SameRows(operands_[i].products, products)) return i;
    }
    operands_.push_back(MakeOperand(products, form, tiles_));
    tiles_ += operands_.back().rows.blocks() * operands_.back().depth;
    return operands_.size() - 1;
  }

  void AddStrip(Products products, const Operand& operand, int64_t block, int blocks) {
    Strip& strip = strips_.emplace_back(Strip{products, &operand, {}, block, blocks, {}, {}, {}});
    const PackedWeight& weight = strip.weight();
    strip.pickers = PickersOf(products, &Product::out_tiles, weight.rows / 32);
    const uint64_t present = operand.rows.ProductsOf(block, blocks);
    for (size_t tile = 0; tile < strip.pickers.size(); ++tile) {
      if ((strip.pickers[tile] & present) != 0) {
        strip.out_tiles.push_back(static_cast<int32_t>(tile));
      }
    }
    if (weight.by_tiles) AddSteps(operand, strip);
  }

  // Of 32 rows of the weight each.
  static int64_t TilesOf(const Strip& strip) {
    return strip.pickers.empty() ? CeilDivide(strip.weight().rows, 32)
                                 : static_cast<int64_t>(strip.out_tiles.size());
  }

  // Cuts strips into units. Where these are few, one more or less for a thread is felt: each thread
  // gets as many tiles as the others, the last of them alone where they are odd.
  void AddWork(int threads) {
    int64_t pairs = 0;
    for (const Strip& strip : strips_) pairs += TilesOf(strip) / 2;
    const int64_t shares = pairs < threads * kPiecesPerThread ? threads : 1;
    for (Strip& strip : strips_) {
      const int64_t tiles = TilesOf(strip);
      for (int64_t share = 0; share < shares; ++share) {
        const int64_t end = tiles * (share + 1) / shares;
        for (int64_t first = tiles * share / shares; first < end; first += 2) {
          strip.units.push_back({static_cast<int32_t>(first),
                                 static_cast<int32_t>(std::min<int64_t>(2, end - first))});
        }
      }
      work_.Add(static_cast<int64_t>(strip.units.size()),
                (strip.blocks + kDecodingBlocks) * strip.operand->depth);
    }
  }

  static void AddSteps(const Operand& operand, Strip& strip) {
    const int64_t group = GroupPanels(strip.weight().rows, kPanelRows);
    for (int64_t i = 0; i < operand.depth; ++i) {
      ManyStep& step = strip.steps.emplace_back(ManyStep{group * i, ~uint32_t{0}});
      if (operand.columns.empty()) continue;
      const int32_t tile = operand.tiles[static_cast<size_t>(i)];
      step = {group * tile, 0};
      for (int b = 0; b < strip.blocks; ++b) {
        const uint64_t products = operand.rows.ProductsOf(strip.first_block + b);
        const bool meets = (operand.columns[static_cast<size_t>(tile)] & products) != 0;
        step.blocks |= static_cast<uint32_t>(meets) << b;
      }
    }
  }

  void RunUnit(const Strip& strip, const Unit& unit, const TileRows* memory) const {
    ManyTile tile = {};
    for (int p = 0; p < 2 * unit.count; ++p) {
      tile.panels[p] = PanelOf(strip.weight(), 2 * TileAt(strip, unit, p / 2) + p % 2);
    }
    tile.depth = strip.operand->depth;
    tile.steps = strip.steps.empty() ? nullptr : strip.steps.data();
    int place[kMaxManyBlocks];  // of the strip's blocks in the tile
    const uint64_t pickers = PickersAt(strip, unit);
    for (int b = 0; b < strip.blocks; ++b) {
      const int64_t block = strip.first_block + b;
      place[b] = tile.blocks;
      if ((strip.operand->rows.ProductsOf(block) & pickers) == 0) continue;
      tile.x[tile.blocks++] = memory + strip.operand->offset + block * tile.depth;
    }
    tile.sums = thread_sums.Get(kMaxManyBlocks * kBlockSums);
    tile.columns = 32 * unit.count;
    if (strip.pickers.empty()) {
      tile.columns = static_cast<int>(
          std::min<int64_t>(tile.columns, strip.weight().rows - 32 * int64_t{unit.first}));
    }
    const Outputs outputs = OutputsOf(strip, unit, place);
    tile.outputs = outputs;
    ManyRowsOf(set_, *strip.products[0]).multiply(tile);
  }

  // Number i of the unit's tiles in the weight.
  static int64_t TileAt(const Strip& strip, const Unit& unit, int i) {
    const int64_t at = unit.first + i;
    return strip.pickers.empty() ? at : strip.out_tiles[static_cast<size_t>(at)];
  }

  // Bit i: product i wants some of the unit.
  static uint64_t PickersAt(const Strip& strip, const Unit& unit) {
    if (strip.pickers.empty()) return ~uint64_t{0};
    uint64_t pickers = 0;
    for (int i = 0; i < unit.count; ++i) {
      pickers |= strip.pickers[static_cast<size_t>(TileAt(strip, unit, i))];
    }
    return pickers;
  }

  // Where the unit's outputs go, product by product.
  static Outputs OutputsOf(const Strip& strip, const Unit& unit, const int* place) {
    const int64_t begin = strip.first_block * kTileRows;
    const int64_t end = begin + int64_t{strip.blocks} * kTileRows;
    Outputs outputs;
    for (size_t i = 0; i < strip.products.size(); ++i) {
      const Product& product = *strip.products[i];
      const int64_t start = strip.operand->rows.Start(i);
      const int64_t first = std::max(begin, start);
      const int64_t last = std::min(end, strip.operand->rows.Start(i + 1));
      if (first >= last || (PickersAt(strip, unit) >> i & 1) == 0) continue;
      const int64_t row = first - begin;  // of the strip
      ManyOutputs& to = outputs.emplace_back();
      to.first_row = static_cast<int>(place[row / kTileRows] * kTileRows + row % kTileRows);
      to.rows = static_cast<int>(last - first);
      to.bias = product.bias == nullptr ? nullptr : product.bias + 32 * int64_t{unit.first};
      for (int t = 0; t < unit.count; ++t) {
        const int64_t at = PlaceOf(static_cast<int32_t>(TileAt(strip, unit, t)), product.out_tiles);
        if (at >= 0) to.out[t] = product.out.Row<float>(first - start) + 32 * at;
      }
      to.out_stride = product.out.stride;
      to.accumulate = product.accumulate;
    }
    return outputs;
  }

  // The last panel for what is behind the weight.
  static const void* PanelOf(const PackedWeight& weight, int64_t panel) {
    panel = std::min(panel, (weight.rows - 1) / kPanelRows);
    const int64_t group = weight.by_tiles ? GroupPanels(weight.rows, kPanelRows) : 1;
    return static_cast<const char*>(weight.data) +
           panel / group * group * PanelBytes(weight.dtype, weight.cols, kPanelRows) +
           (weight.by_tiles ? panel % group * PanelBytes(weight.dtype, 32, kPanelRows) : 0);
  }

  const ManyRowsSet& set_;
  std::deque<Operand> operands_;
  int64_t tiles_ = 0;
  std::deque<Strip> strips_;
  WorkList work_;
};

}  // namespace

// Blocks that meet decoded weights, and decoding itself, as rows without tiles: half of
// fewest_rows each, as one block has its weights decoded for itself.
bool HasManyRows(const ManyRowsSet& set, absl::Span<const Product* const> products) {
  const Product& any = *products[0];
  if (any.x.dtype == DType::kF32 || products.size() > kMaxJoined) return false;
  const ManyRows& many = ManyRowsOf(set, any);
  if (many.multiply == nullptr) return false;
  if (products.size() == 1) return any.x.rows >= many.fewest_rows;
  const auto of_another_type = [&](const Product* p) { return p->x.dtype != any.x.dtype; };
  if (std::any_of(products.begin(), products.end(), of_another_type)) return false;
  const JoinedRows rows(products);
  if (rows.Start(products.size()) < many.fewest_rows) return false;
  const auto list = any.weight.by_tiles ? &Product::in_tiles : &Product::out_tiles;
  const int64_t tiles = any.weight.by_tiles ? any.weight.cols / 32 : any.weight.rows / 32;
  Pickers pickers = PickersOf(products, list, tiles);
  if (pickers.empty()) pickers = {~uint64_t{0}};
  int64_t with = 0, without = 0;
  for (const uint64_t set_of : pickers) {
    if (set_of == 0) continue;
    with += kDecodingBlocks;
    for (int64_t b = 0; b < rows.blocks(); ++b) with += (rows.ProductsOf(b) & set_of) != 0 ? 1 : 0;
    for (uint64_t rest = set_of; rest != 0; rest &= rest - 1) {
      const auto i = static_cast<size_t>(std::countr_zero(rest));
      if (i < products.size()) without += products[i]->x.rows;
    }
  }
  return with * many.fewest_rows <= 2 * without;
}

void RunManyRows(Device& device, const ManyRowsSet& set,
                 absl::Span<const Product* const> products) {
  if (products.empty()) return;
  ManyRowsCall(set, device.num_threads(), products).Run(device);
}

}  // namespace pregate
