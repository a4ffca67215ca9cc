// Where the neurons of experts that overlap lie in memory.
//
// Read-ME's experts are overlapping subsets of one dense FFN (arXiv 2410.19123, section 3.1), so
// their neurons are kept once, in tiles of 32: as many as products skip or take as a whole. An
// expert reads every tile that holds a neuron of its own and leaves out what the others own there.
// So neurons with alike owners belong together, and what does not fit together well may have
// several places, each for some of its owners.
#ifndef PREGATE_ENGINE_MODEL_NEURON_TILES_H_
#define PREGATE_ENGINE_MODEL_NEURON_TILES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace pregate {

inline constexpr int32_t kTileNeurons = 32;
// Experts are bits of a word.
inline constexpr int32_t kMaxTiedExperts = 64;

struct NeuronTiles {
  // Of each place, [32 * tiles]: the neuron that lies there, and the experts that use it there.
  // Every owner of a neuron uses one of its places. Places that fill up a tile have neither: -1, 0.
  std::vector<int32_t> neurons;
  std::vector<uint64_t> users;

  int64_t tiles() const { return static_cast<int64_t>(neurons.size()) / kTileNeurons; }
};

// Tiles for the neurons that somebody owns (bit e of owners[f]: expert e owns neuron f): at most
// `max_tiles`, or as many as all of them once need, with little to read for each expert.
// Deterministic; some milliseconds for 8 experts of 10,000 neurons.
NeuronTiles TileNeurons(absl::Span<const uint64_t> owners, int64_t max_tiles);

// Who reads each tile, as sets of experts.
std::vector<uint64_t> ReadersOfTiles(const NeuronTiles& tiles);

// What one expert reads.
struct ExpertTiles {
  std::vector<int32_t> tiles;   // ascending
  std::vector<uint32_t> owned;  // [tiles] bit j of word i: place j of tiles[i] is the expert's
};
ExpertTiles TilesOfExpert(const NeuronTiles& tiles, int32_t expert);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_NEURON_TILES_H_
