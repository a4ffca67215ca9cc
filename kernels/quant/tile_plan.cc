#include "kernels/quant/tile_plan.h"

#include <algorithm>
#include <cassert>
#include <functional>

#include "kernels/quant/activations.h"
#include "kernels/quant/panels.h"

namespace pregate {
namespace {

// What a panel costs beside the rows that it meets, in rows: its way from memory, its decoding.
constexpr int64_t kPanelRows = 2;
// Activations that stay in a core's level-2 cache while panels pass through: as a block of rows.
constexpr int64_t kMaxTogetherBytes = 384 << 10;
// From as many rows on, a strip is a tile of its own where several meet a panel.
constexpr int kRowsOfATile = 8;

// Rows of the weight that a product multiplies with.
int64_t UsedRows(const Product& product) {
  return product.out_tiles.empty() ? product.weight.rows
                                   : 32 * static_cast<int64_t>(product.out_tiles.size());
}

[[maybe_unused]] bool ShapesFit(const Product& product) {
  const PackedWeight& weight = product.weight;
  const bool listed = !product.in_tiles.empty();
  const int64_t depth = listed ? 32 * static_cast<int64_t>(product.in_tiles.size()) : weight.cols;
  const bool tiled = weight.cols % 32 == 0 && GetDTypeInfo(weight.dtype).block_elements <= 32;
  return product.x.cols == depth && (!listed || tiled) &&
         (product.out_tiles.empty() || (weight.rows % 32 == 0 && product.bias == nullptr)) &&
         product.out.rows == product.x.rows && product.out.cols == UsedRows(product) &&
         product.out.dtype == DType::kF32;
}

// The rows of several tiles of the same panel as one tile.
class JoinedTile {
 public:
  void Add(TileFunction run, const Tile& tile) {
    if (run != run_ || count_ + tile.rows > kMaxBlockRows) Run();
    run_ = run;
    tile_ = tile;
    char* out = reinterpret_cast<char*>(tile.out);
    for (int r = 0; r < tile.rows; ++r, out += tile.out_stride) {
      rows_[count_++] = {tile.groups + r, tile.rows, reinterpret_cast<float*>(out),
                         tile.accumulate};
    }
  }
  void Run() {
    if (count_ == 0) return;
    tile_.rows = count_;
    tile_.joined = rows_;
    run_(tile_);
    count_ = 0;
  }

 private:
  TileFunction run_ = nullptr;
  Tile tile_;  // the last one's, for what they share
  JoinedRow rows_[kMaxBlockRows];
  int count_ = 0;
};

int64_t ActivationBytes(const Product& product) {
  const ConstTensor& x = product.x;
  const int64_t group = x.dtype == DType::kF32 ? 32 * sizeof(float) : sizeof(ActivationGroup);
  return x.rows * (x.cols / 32) * group;
}

}  // namespace

TilePlan::TilePlan(const TileSet& tiles, absl::Span<const Product> products) : tiles_(tiles) {
  absl::InlinedVector<const Product*, 4> order;
  for (const Product& product : products) {
    assert(ShapesFit(product));
    if (product.x.rows > 0) order.push_back(&product);
  }
  const auto data = [](const Product* product) { return product->weight.data; };
  std::sort(order.begin(), order.end(), [&](const Product* a, const Product* b) {
    return data(a) == data(b) ? a < b : std::less<>()(data(a), data(b));
  });
  absl::InlinedVector<Member, 4> members;
  for (auto first = order.begin(); first != order.end();) {
    members.clear();
    int64_t bytes = 0;
    auto next = first;
    for (; next != order.end() && data(*next) == data(*first); ++next) {
      members.push_back(MakeMember(**next));
      bytes += ActivationBytes(**next);
    }
    if (members.size() > 1 && bytes <= kMaxTogetherBytes) {
      AddTogether(members);
    } else {
      for (const Member& member : members) AddSeparate(member);
    }
    first = next;
  }
}

TilePlan::Member TilePlan::MakeMember(const Product& product) {
  const ConstTensor& x = product.x;
  const auto type = static_cast<size_t>(product.weight.dtype);
  const bool integer = x.dtype != DType::kF32;
  const RowBlocks blocks =
      integer ? ActivationMatrix(x).blocks() : RowBlocks(x.rows, kMaxBlockRows);
  Strip strip;
  strip.run = !integer                    ? tiles_.floating[type]
              : x.dtype == DType::kQ16Act ? tiles_.q16[type]
                                          : tiles_.q8[type];
  assert(strip.run != nullptr);
  strip.columns = product.out.cols;
  strip.tile = {};
  strip.tile.cols = x.cols;
  strip.in_tiles = AddInTiles(product);
  strip.tile.x_stride = x.stride;
  strip.tile.bias = product.bias;
  strip.tile.out_stride = product.out.stride;
  strip.tile.accumulate = product.accumulate;
  const auto first = static_cast<int32_t>(strips_.size());
  for (int64_t block = 0; block < blocks.count(); ++block) {
    strip.tile.rows = blocks.Height(block);
    strip.tile.groups = integer ? ActivationMatrix(x).Block(block) : nullptr;
    strip.tile.x = integer ? nullptr : x.Row<float>(blocks.Begin(block));
    strip.tile.out = product.out.Row<float>(blocks.Begin(block));
    strip.joins = integer && product.in_tiles.empty() && product.bias == nullptr &&
                  strip.tile.rows < kRowsOfATile;
    strip.work = (strip.tile.rows + kPanelRows) * std::max<int64_t>(1, x.cols / 32);
    strips_.push_back(strip);
  }
  return {&product, first, static_cast<int32_t>(strips_.size())};
}

int64_t TilePlan::AddInTiles(const Product& product) {
  const absl::Span<const int32_t> list = product.in_tiles;
  if (list.empty()) return -1;
  const auto first = static_cast<int64_t>(in_tiles_.size());
  in_tiles_.insert(in_tiles_.end(), list.begin(), list.end());
  const auto tiles_of_panel = static_cast<int32_t>(product.weight.cols / 32);
  for (int i = 0; i < kTilesAhead; ++i) {
    in_tiles_.push_back(*(in_tiles_.end() - static_cast<int64_t>(list.size())) + tiles_of_panel);
  }
  return first;
}

void TilePlan::AddMeetings(const Member& member, int64_t column) {
  for (int32_t strip = member.first_strip; strip < member.last_strip; ++strip) {
    meetings_.push_back({strip, column});
  }
}

void TilePlan::AddBatch(const PackedWeight& weight, int64_t first_row, int64_t rows) {
  Batch batch;
  batch.panel_bytes = PanelBytes(weight.dtype, weight.cols, tiles_.lanes);
  batch.panels =
      static_cast<const char*>(weight.data) + first_row / tiles_.lanes * batch.panel_bytes;
  batch.first_meeting = batches_.empty() ? 0 : batches_.back().last_meeting;
  batch.last_meeting = static_cast<int32_t>(meetings_.size());
  batches_.push_back(batch);
  int64_t work = 0;
  for (int32_t i = batch.first_meeting; i < batch.last_meeting; ++i) {
    work += strips_[static_cast<size_t>(meetings_[static_cast<size_t>(i)].strip)].work;
  }
  work_.Add((rows + tiles_.lanes - 1) / tiles_.lanes, work);
}

void TilePlan::AddSeparate(const Member& member) {
  const Product& product = *member.product;
  const absl::Span<const int32_t> tiles = product.out_tiles;
  for (int32_t strip = member.first_strip; strip < member.last_strip; ++strip) {
    const Member alone = {&product, strip, strip + 1};
    if (tiles.empty()) {
      AddMeetings(alone, 0);
      AddBatch(product.weight, 0, product.weight.rows);
      continue;
    }
    for (size_t i = 0, next; i < tiles.size(); i = next) {
      next = i + 1;
      while (next < tiles.size() && tiles[next] == tiles[next - 1] + 1) ++next;
      AddMeetings(alone, 32 * static_cast<int64_t>(i));
      AddBatch(product.weight, 32 * int64_t{tiles[i]}, 32 * static_cast<int64_t>(next - i));
    }
  }
}

void TilePlan::AddTogether(Members members) {
  const auto whole = [](const Member& member) { return member.product->out_tiles.empty(); };
  if (!std::all_of(members.begin(), members.end(), whole)) return AddTogetherByTile(members);
  for (const Member& member : members) AddMeetings(member, 0);
  const PackedWeight& weight = members[0].product->weight;
  AddBatch(weight, 0, weight.rows);
}

void TilePlan::AddTogetherByTile(Members members) {
  const PackedWeight& weight = members[0].product->weight;
  absl::InlinedVector<size_t, 8> next(members.size(), 0);  // of each member's tiles
  for (int32_t tile = 0; tile < weight.rows / 32; ++tile) {
    bool met = false;
    for (size_t i = 0; i < members.size(); ++i) {
      const absl::Span<const int32_t> tiles = members[i].product->out_tiles;
      if (!tiles.empty() && (next[i] == tiles.size() || tiles[next[i]] != tile)) continue;
      AddMeetings(members[i], 32 * static_cast<int64_t>(next[i]++));
      met = true;
    }
    if (met) AddBatch(weight, 32 * int64_t{tile}, 32);
  }
}

Tile TilePlan::TileOf(const Batch& batch, const Meeting& meeting, int64_t panel) const {
  const Strip& strip = strips_[static_cast<size_t>(meeting.strip)];
  const int64_t column = meeting.column + panel * tiles_.lanes;
  Tile tile = strip.tile;
  if (strip.in_tiles >= 0) tile.in_tiles = in_tiles_.data() + strip.in_tiles;
  tile.panel = batch.panels + panel * batch.panel_bytes;
  tile.bias = tile.bias == nullptr ? nullptr : tile.bias + column;
  tile.out += column;
  tile.columns = static_cast<int>(std::min<int64_t>(tiles_.lanes, strip.columns - column));
  return tile;
}

void TilePlan::RunPanel(int64_t batch, int64_t panel) const {
  const Batch& b = batches_[static_cast<size_t>(batch)];
  if (b.last_meeting - b.first_meeting > 1) return RunTogether(b, panel);
  const Meeting& meeting = meetings_[static_cast<size_t>(b.first_meeting)];
  strips_[static_cast<size_t>(meeting.strip)].run(TileOf(b, meeting, panel));
}

void TilePlan::RunTogether(const Batch& batch, int64_t panel) const {
  JoinedTile joined;
  for (int32_t i = batch.first_meeting; i < batch.last_meeting; ++i) {
    const Meeting& meeting = meetings_[static_cast<size_t>(i)];
    const Strip& strip = strips_[static_cast<size_t>(meeting.strip)];
    const Tile tile = TileOf(batch, meeting, panel);
    strip.joins ? joined.Add(strip.run, tile) : strip.run(tile);
  }
  joined.Run();
}

}  // namespace pregate
