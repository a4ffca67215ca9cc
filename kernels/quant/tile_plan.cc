#include "kernels/quant/tile_plan.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "kernels/quant/activations.h"
#include "kernels/quant/panels.h"

namespace pregate {
namespace {

// What a panel costs beside the rows that it meets, in rows: its way from memory, its decoding.
constexpr int64_t kPanelRows = 2;
// Activations that stay in a core's level-2 cache while panels pass through: as a block of rows.
constexpr int64_t kMaxTogetherBytes = 384 << 10;
// Up to as many rows a product alone goes through a group of panels at once, tile by tile: as fast
// as memory gives.
constexpr int64_t kRowsOfATile = 8;
// Panels before the end of a run during which the next run is asked for.
constexpr int64_t kPanelsBeforeGap = 3;

// Whether one row's weights are asked for, as those of more rows are. AMD's Zen 4 foresees a panel
// and reads as fast as memory gives, 30 % faster than if asked; an Intel Xeon with AMX stops at
// the end of each page, and takes 1.6 times as long as if asked.
bool AsksForOneRow() {
  static const bool asks = __builtin_cpu_is("intel");
  return asks;
}

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
         (listed ? product.weight.by_tiles : true) &&
         !(product.weight.by_tiles && !product.out_tiles.empty()) &&
         product.out.rows == product.x.rows && product.out.cols == UsedRows(product) &&
         product.out.dtype == DType::kF32;
}

// Strips of the same panel as one tile.
class TileJoiner {
 public:
  TileJoiner() { SetSteps({}, 1, 1); }
  void Add(JoinedFunction run, const Tile& tile) {
    if (run != run_ || joined_.rows + tile.rows > kMaxBlockRows) Run();
    run_ = run;
    strips_[count_++] = {tile.groups, tile.rows, tile.out, tile.out_stride, tile.accumulate};
    joined_.rows += tile.rows;
    joined_.panel = tile.panel;
    joined_.cols = tile.cols;
    joined_.columns = tile.columns;
  }
  // `steps` of `panels` panels, if those are more than this one.
  void SetSteps(absl::Span<const TileStep> steps, int panels, int64_t group) {
    joined_.steps = steps;
    joined_.asks = AsksForOneRow();
    joined_.panels = panels;
    joined_.group = group;
  }
  void Run() {
    if (count_ == 0) return;
    joined_.strips = absl::MakeConstSpan(strips_, count_);
    run_(joined_);
    count_ = 0;
    joined_.rows = 0;
  }

 private:
  JoinedFunction run_ = nullptr;
  JoinedTile joined_ = {};
  JoinedStrip strips_[kMaxBlockRows];
  size_t count_ = 0;
};

int64_t ActivationBytes(const Product& product) {
  const ConstTensor& x = product.x;
  const int64_t group = x.dtype == DType::kF32 ? 32 * sizeof(float) : sizeof(ActivationGroup);
  return x.rows * (x.cols / 32) * group;
}

}  // namespace

TilePlan::TilePlan(const TileSet& tiles, int threads, absl::Span<const Product* const> products)
    : tiles_(tiles), threads_(threads) {
  absl::InlinedVector<Member, 4> members;
  for (auto first = products.begin(), next = first; first != products.end(); first = next) {
    members.clear();
    int64_t bytes = 0, rows = 0;
    for (; next != products.end() && (*next)->weight.data == (*first)->weight.data; ++next) {
      assert(ShapesFit(**next));
      if ((*next)->x.rows == 0) continue;
      members.push_back(MakeMember(**next));
      bytes += ActivationBytes(**next);
      rows += (*next)->x.rows;
    }
    if (members.empty()) continue;
    const auto joined = [&](const Member& member) {
      return strips_[static_cast<size_t>(member.first_strip)].joined;
    };
    const bool joins = std::all_of(members.begin(), members.end(), [&](const Member& member) {
      return joined(member) != nullptr && joined(member) == joined(members[0]);
    });
    const bool few = bytes <= kMaxTogetherBytes && members.size() <= 64;
    if (!few || (*first)->weight.by_tiles) {
      if (few && joins && rows <= kMaxBlockRows && (members.size() > 1 || rows <= kRowsOfATile)) {
        AddTogetherByInTile(members, rows);
      } else {
        for (const Member& member : members) AddSeparate(member);
      }
    } else if (members.size() > 1) {
      AddTogether(members);
    } else {
      AddSeparate(members[0]);
    }
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
  strip.joined = !integer || product.bias != nullptr ? nullptr
                 : x.dtype == DType::kQ16Act         ? tiles_.joined_q16[type]
                                                     : tiles_.joined_q8[type];
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
    strips_.push_back(strip);
  }
  return {&product, first, static_cast<int32_t>(strips_.size())};
}

int64_t TilePlan::AddInTiles(const Product& product) {
  const PackedWeight& weight = product.weight;
  if (!weight.by_tiles) return -1;
  const auto group = static_cast<int32_t>(GroupPanels(weight.rows, tiles_.lanes));
  const int64_t tiles = product.x.cols / 32;
  const auto first = static_cast<int64_t>(in_tiles_.size());
  for (int64_t i = 0; i < tiles; ++i) {
    const auto at = static_cast<size_t>(i);
    in_tiles_.push_back(
        group * (product.in_tiles.empty() ? static_cast<int32_t>(i) : product.in_tiles[at]));
  }
  for (int i = 0; i < kTilesAhead; ++i) in_tiles_.push_back(*(in_tiles_.end() - tiles) + 1);
  return first;
}

void TilePlan::AddMeetings(const Member& member, int64_t column) {
  for (int32_t strip = member.first_strip; strip < member.last_strip; ++strip) {
    meetings_.push_back({strip, column});
  }
}

TilePlan::Batch& TilePlan::AddBatch(const PackedWeight& weight, int64_t first_row, int64_t rows,
                                    bool together) {
  Batch batch;
  batch.panel_bytes = PanelBytes(weight.dtype, weight.cols, tiles_.lanes);
  batch.panels =
      static_cast<const char*>(weight.data) + first_row / tiles_.lanes * batch.panel_bytes;
  batch.panels_count = (rows + tiles_.lanes - 1) / tiles_.lanes;
  batch.group = weight.by_tiles ? GroupPanels(weight.rows, tiles_.lanes) : 1;
  batch.tile_bytes = weight.by_tiles ? PanelBytes(weight.dtype, 32, tiles_.lanes) : 0;
  batch.unit_panels = 1;
  batch.together = together;
  batch.first_meeting = batches_.empty() ? 0 : batches_.back().last_meeting;
  batch.last_meeting = static_cast<int32_t>(meetings_.size());
  batches_.push_back(batch);
  return batches_.back();
}

void TilePlan::AddWork(const Batch& batch) {
  int64_t work = 0;
  bool first = true;
  for (int32_t i = batch.first_meeting; i < batch.last_meeting; ++i, first = false) {
    const Strip& strip = strips_[static_cast<size_t>(meetings_[static_cast<size_t>(i)].strip)];
    const bool decodes = first || strip.joined == nullptr;
    work +=
        (strip.tile.rows + (decodes ? kPanelRows : 0)) * std::max<int64_t>(1, strip.tile.cols / 32);
  }
  work_.Add(batch.panels_count / batch.unit_panels, batch.unit_panels * work);
}

void TilePlan::AddSeparate(const Member& member) {
  const Product& product = *member.product;
  const absl::Span<const int32_t> tiles = product.out_tiles;
  for (int32_t strip = member.first_strip; strip < member.last_strip; ++strip) {
    const Member alone = {&product, strip, strip + 1};
    if (tiles.empty()) {
      AddMeetings(alone, 0);
      AddWork(AddBatch(product.weight, 0, product.weight.rows, false));
      continue;
    }
    for (size_t i = 0, next; i < tiles.size(); i = next) {
      next = i + 1;
      while (next < tiles.size() && tiles[next] == tiles[next - 1] + 1) ++next;
      AddMeetings(alone, 32 * static_cast<int64_t>(i));
      AddWork(AddBatch(product.weight, 32 * int64_t{tiles[i]}, 32 * static_cast<int64_t>(next - i),
                       false));
    }
  }
}

void TilePlan::AddTogether(Members members) {
  const auto whole = [](const Member& member) { return member.product->out_tiles.empty(); };
  if (!std::all_of(members.begin(), members.end(), whole)) return AddTogetherByOutTile(members);
  for (const Member& member : members) AddMeetings(member, 0);
  const PackedWeight& weight = members[0].product->weight;
  AddWork(AddBatch(weight, 0, weight.rows, true));
}

// Tiles next to each other that the same members meet are one batch.
void TilePlan::AddTogetherByOutTile(Members members) {
  const PackedWeight& weight = members[0].product->weight;
  absl::InlinedVector<size_t, 8> next(members.size(), 0);  // of each member's tiles
  const auto tiles = static_cast<int32_t>(weight.rows / 32);
  uint64_t last = 0;
  int32_t first_tile = 0;
  for (int32_t tile = 0; tile <= tiles; ++tile) {
    uint64_t met = 0;
    for (size_t i = 0; tile < tiles && i < members.size(); ++i) {
      const absl::Span<const int32_t> list = members[i].product->out_tiles;
      if (list.empty() || (next[i] < list.size() && list[next[i]] == tile)) met |= uint64_t{1} << i;
    }
    if (met != last) {
      if (last != 0) {
        AddWork(AddBatch(weight, 32 * int64_t{first_tile}, 32 * int64_t{tile - first_tile}, true));
      }
      for (uint64_t set = met; set != 0; set &= set - 1) {
        const auto i = static_cast<size_t>(std::countr_zero(set));
        AddMeetings(members[i], 32 * static_cast<int64_t>(next[i]));
      }
      last = met;
      first_tile = tile;
    }
    for (uint64_t set = met; set != 0; set &= set - 1) {
      ++next[static_cast<size_t>(std::countr_zero(set))];
    }
  }
}

void TilePlan::AddTogetherByInTile(Members members, int64_t rows) {
  const PackedWeight& weight = members[0].product->weight;
  for (const Member& member : members) AddMeetings(member, 0);
  Batch& batch = AddBatch(weight, 0, weight.rows, true);
  // As much of a group as its sums allow and as leaves work for every thread.
  const int64_t sums = kMaxJoinedSums / tiles_.lanes / rows;
  int64_t panels =
      std::max<int64_t>(1, std::min({batch.group, sums, batch.panels_count / threads_}));
  while (batch.group % panels != 0) --panels;
  batch.unit_panels = static_cast<int>(panels);
  batch.first_step = static_cast<int32_t>(steps_.size());
  AddSteps(members);
  batch.last_step = static_cast<int32_t>(steps_.size());
  AddWork(batch);
}

// The union of the members' lists.
void TilePlan::AddSteps(Members members) {
  const PackedWeight& weight = members[0].product->weight;
  const int64_t group = GroupPanels(weight.rows, tiles_.lanes);
  absl::InlinedVector<size_t, 8> next(members.size(), 0);
  for (int32_t tile = 0; tile < weight.cols / 32; ++tile) {
    TileStep step = {tile * group, 0};
    int strip = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      const absl::Span<const int32_t> list = members[i].product->in_tiles;
      const int strips = members[i].last_strip - members[i].first_strip;
      if (list.empty() || (next[i] < list.size() && list[next[i]] == tile)) {
        step.strips |= ((uint64_t{1} << strips) - 1) << strip;
        ++next[i];
      }
      strip += strips;
    }
    if (step.strips != 0) steps_.push_back(step);
  }
}

Tile TilePlan::TileOf(const Batch& batch, const Meeting& meeting, int64_t panel) const {
  const Strip& strip = strips_[static_cast<size_t>(meeting.strip)];
  const int64_t column = meeting.column + panel * tiles_.lanes;
  Tile tile = strip.tile;
  if (strip.in_tiles >= 0) tile.in_tiles = in_tiles_.data() + strip.in_tiles;
  tile.panel = batch.panels + panel / batch.group * batch.group * batch.panel_bytes +
               panel % batch.group * batch.tile_bytes;
  if (tile.rows > 1 || AsksForOneRow()) {
    tile.end = batch.panels + batch.panels_count * batch.panel_bytes;
    tile.next = &batch == &batches_.back() ? tile.end : (&batch + 1)->panels;
  }
  tile.bias = tile.bias == nullptr ? nullptr : tile.bias + column;
  tile.out += column;
  tile.columns =
      static_cast<int>(std::min<int64_t>(batch.unit_panels * tiles_.lanes, strip.columns - column));
  return tile;
}

const char* TilePlan::Ahead(int64_t batch, int64_t panel) const {
  const Batch& b = batches_[static_cast<size_t>(batch)];
  const int64_t behind = panel + kPanelsBeforeGap - b.panels_count;
  if (behind < 0 || static_cast<size_t>(batch) + 1 == batches_.size()) return nullptr;
  return batches_[static_cast<size_t>(batch) + 1].panels + behind * b.panel_bytes / 2;
}

void TilePlan::RunUnit(int64_t batch, int64_t unit) const {
  const Batch& b = batches_[static_cast<size_t>(batch)];
  const int64_t panel = unit * b.unit_panels;
  if (b.together) return RunTogether(b, panel);
  const Meeting& meeting = meetings_[static_cast<size_t>(b.first_meeting)];
  Tile tile = TileOf(b, meeting, panel);
  tile.ahead = Ahead(batch, panel);
  strips_[static_cast<size_t>(meeting.strip)].run(tile);
}

void TilePlan::RunTogether(const Batch& batch, int64_t panel) const {
  TileJoiner joiner;
  if (batch.last_step > batch.first_step) {
    joiner.SetSteps(absl::MakeConstSpan(steps_).subspan(
                        static_cast<size_t>(batch.first_step),
                        static_cast<size_t>(batch.last_step - batch.first_step)),
                    batch.unit_panels, batch.group);
  }
  for (int32_t i = batch.first_meeting; i < batch.last_meeting; ++i) {
    const Meeting& meeting = meetings_[static_cast<size_t>(i)];
    const Strip& strip = strips_[static_cast<size_t>(meeting.strip)];
    const Tile tile = TileOf(batch, meeting, panel);
    strip.joined != nullptr ? joiner.Add(strip.joined, tile) : strip.run(tile);
  }
  joiner.Run();
}

}  // namespace pregate
