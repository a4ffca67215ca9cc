// Which tiles of experts that overlap come and go together.
#ifndef PREGATE_ENGINE_MODEL_TILE_UNITS_H_
#define PREGATE_ENGINE_MODEL_TILE_UNITS_H_

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "engine/model/neuron_tiles.h"

namespace pregate {

// Nearly every set of experts reads some tile, and a set's tiles alone are soon too few to be worth
// a read of a disk. So sets that are alike make a unit, which is loaded whole if any of its experts
// is needed.
struct TileUnits {
  std::vector<uint64_t> experts;        // [units] that need each, all different, ascending
  std::map<uint64_t, int32_t> unit_of;  // of each set of readers
};

// `tiles`: how many tiles each set of experts reads, in all layers. As few units as can be without
// one expert loading much that it does not read, about kMaxTileUnits at most. Tiles that all
// `num_experts` read are a unit of their own, and no others become one that all need.
inline constexpr size_t kMaxTileUnits = 32;
TileUnits GroupTiles(const std::map<uint64_t, int64_t>& tiles, int32_t num_experts);

// Puts the tiles of a unit side by side, such that neighbours have readers in common, and returns
// them: unit and number of its tiles, in order.
std::vector<std::pair<int32_t, int64_t>> OrderByUnit(const TileUnits& units, NeuronTiles& tiles);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_TILE_UNITS_H_
