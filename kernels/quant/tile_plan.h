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
// together: it comes from memory once for all of them, a layer of tied experts for example.
class TilePlan {
 public:
  TilePlan(const TileSet& tiles, absl::Span<const Product> products);

  // Items are batches of panels, units their panels.
  const WorkList& work() const { return work_; }
  void RunPanel(int64_t batch, int64_t panel) const;

 private:
  // A block of a product's rows.
  struct Strip {
    TileFunction run;
    Tile tile;         // as for the first columns of the output, without in_tiles
    int64_t in_tiles;  // where they stand in in_tiles_, or -1
    int64_t columns;
    int64_t work;  // of a panel
    bool joins;    // others in one tile: its rows are so few that decoding weights for them is dear
  };
  // A strip that meets a batch: the first panel gives its outputs from `column` on.
  struct Meeting {
    int32_t strip;
    int64_t column;
  };
  // Consecutive panels that meet the same strips.
  struct Batch {
    const char* panels;
    int64_t panel_bytes;
    int32_t first_meeting;
    int32_t last_meeting;
  };
  // A product and its strips.
  struct Member {
    const Product* product;
    int32_t first_strip;
    int32_t last_strip;
  };
  using Members = absl::Span<const Member>;

  Member MakeMember(const Product& product);
  // Where the list stands in in_tiles_; -1 if it is empty.
  int64_t AddInTiles(const Product& product);
  // Panels of the members' weight, which is the same: batches of a strip each, or of all.
  void AddSeparate(const Member& member);
  void AddTogether(Members members);
  void AddTogetherByTile(Members members);

  void RunTogether(const Batch& batch, int64_t panel) const;
  Tile TileOf(const Batch& batch, const Meeting& meeting, int64_t panel) const;

  void AddMeetings(const Member& member, int64_t column);
  // A batch of the meetings that were added since the last one, `rows` rows of the weight from
  // `first_row` on.
  void AddBatch(const PackedWeight& weight, int64_t first_row, int64_t rows);

  const TileSet& tiles_;
  absl::InlinedVector<int32_t, 8> in_tiles_;  // lists as tiles want them
  absl::InlinedVector<Strip, 4> strips_;
  absl::InlinedVector<Meeting, 8> meetings_;
  absl::InlinedVector<Batch, 8> batches_;
  WorkList work_;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_TILE_PLAN_H_
