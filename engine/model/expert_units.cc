#include "engine/model/expert_units.h"

#include <map>

#include "engine/model/neuron_tiles.h"

namespace pregate {
namespace {

int64_t Bytes(const Linear& linear, const Kernels& kernels) {
  const PackedWeight& weight = linear.weight;
  return kernels.packed_bytes(weight.dtype, weight.rows, weight.cols);
}

// Who reads each tile of the block.
std::vector<uint64_t> Readers(const FfnWeights& ffn, size_t block) {
  std::vector<uint64_t> readers(
      static_cast<size_t>(ffn.blocks[block].gate.weight.rows / kTileNeurons), 0);
  for (size_t e = 0; e < ffn.experts.size(); ++e) {
    const uint64_t bit = uint64_t{1} << e;
    for (const ExpertPart& part : ffn.experts[e].parts) {
      if (static_cast<size_t>(part.block) != block) continue;
      for (const int32_t tile : part.tiles) readers[static_cast<size_t>(tile)] |= bit;
      if (part.tiles.empty()) {
        for (uint64_t& set : readers) set |= bit;
      }
    }
  }
  return readers;
}

}  // namespace

std::vector<ExpertUnitSize> CountExpertUnits(const Weights& weights, const Kernels& kernels) {
  std::vector<ExpertUnitSize> units;
  for (const uint64_t readers : weights.tile_units) {
    const auto unit = static_cast<int32_t>(units.size());
    units.push_back({readers, weights.memory.experts->unit_bytes(unit)});
  }
  if (!units.empty()) return units;
  std::map<uint64_t, int64_t> bytes;
  for (const LayerWeights& layer : weights.layers) {
    for (size_t b = 0; b < layer.ffn.blocks.size(); ++b) {
      const NeuronBlock& block = layer.ffn.blocks[b];
      const std::vector<uint64_t> readers = Readers(layer.ffn, b);
      const int64_t tile_bytes =
          (Bytes(block.gate, kernels) + Bytes(block.up, kernels) + Bytes(block.down, kernels)) /
          static_cast<int64_t>(readers.size());
      for (const uint64_t set : readers) bytes[set] += tile_bytes;
    }
  }
  for (const auto& [readers, size] : bytes) units.push_back({readers, size});
  return units;
}

}  // namespace pregate
