// Which panels meet which rows, for all products of a call: what RunMatmul shares out.
#ifndef PREGATE_KERNELS_QUANT_TILE_PLAN_H_
#define PREGATE_KERNELS_QUANT_TILE_PLAN_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "kernels/kernels.h"
#include "kernels/quant/tiles.h"
#include "kernels/work_list.h"

namespace pregate {

// The unit of work is a panel with all the strips of rows that meet it at once. Most often that is
// one strip: a block of rows of a product. Products of one weight with few rows meet each panel
// together: it comes from memory once for all of them, a layer of tied experts for example. Of a
// weight that is packed by tiles a unit may be a group of panels.
class TilePlan {
 public:
  // `threads`: among whom the work will be shared out. `products`: those of one weight follow each
  // other.
  TilePlan(const TileSet& tiles, int threads, absl::Span<const Product* const> products);

  // Items are batches of units.
  const WorkList& work() const { return work_; }
  void RunUnit(int64_t batch, int64_t unit) const;

 private:
  // A block of a product's rows.
  struct Strip {
    TileFunction run;
    JoinedFunction joined;  // what it does in a tile with others; null: it does not
    Tile tile;              // as for the first columns of the output, without in_tiles
    int64_t in_tiles;       // where they stand in in_tiles_, or -1
    int64_t columns;
  };
  // A strip that meets a batch: the first panel gives its outputs from `column` on.
  struct Meeting {
    int32_t strip;
    int64_t column;
  };
  // Consecutive panels that meet the same strips.
  struct Batch {
    const char* panels;
    int64_t panels_count;
    int64_t panel_bytes;
    int64_t group;       // panels of a group
    int64_t tile_bytes;  // from one panel of a group to the next
    int unit_panels;
    bool together;  // the strips meet each panel at once
    int32_t first_meeting;
    int32_t last_meeting;
    int32_t first_step = 0;  // of steps_
    int32_t last_step = 0;
  };
  // A product and its strips.
  struct Member {
    const Product* product;
    int32_t first_strip;
    int32_t last_strip;
  };
  using Members = absl::Span<const Member>;

  Member MakeMember(const Product& product);
  // Where the list stands in in_tiles_; -1 if there is none.
  int64_t AddInTiles(const Product& product);
  // Panels of the members' weight, which is the same: batches of a strip each, or of all.
  void AddSeparate(const Member& member);
  void AddTogether(Members members);
  void AddTogetherByOutTile(Members members);
  // Of a weight that is packed by tiles.
  void AddTogetherByInTile(Members members, int64_t rows);
  void AddSteps(Members members);

  void RunTogether(const Batch& batch, int64_t panel) const;
  Tile TileOf(const Batch& batch, const Meeting& meeting, int64_t panel) const;
  // What a thread will want after the panel, if that is elsewhere.
  const char* Ahead(int64_t batch, int64_t panel) const;

  void AddMeetings(const Member& member, int64_t column);
  // A batch of the meetings that were added since the last one, `rows` rows of the weight from
  // `first_row` on.
  Batch& AddBatch(const PackedWeight& weight, int64_t first_row, int64_t rows, bool together);
  void AddWork(const Batch& batch);

  const TileSet& tiles_;
  const int threads_;
  absl::InlinedVector<int32_t, 8> in_tiles_;  // lists as tiles want them
  absl::InlinedVector<TileStep, 64> steps_;
  absl::InlinedVector<Strip, 4> strips_;
  absl::InlinedVector<Meeting, 8> meetings_;
  absl::InlinedVector<Batch, 8> batches_;
  WorkList work_;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_TILE_PLAN_H_
