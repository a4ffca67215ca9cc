// The FFNs of a Read-ME model, from any form of checkpoint to the form that they run in.
#ifndef PREGATE_ENGINE_MODEL_READ_ME_WEIGHTS_H_
#define PREGATE_ENGINE_MODEL_READ_ME_WEIGHTS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "engine/model/ffn_weights.h"
#include "engine/model/model_file.h"
#include "engine/model/neuron_tiles.h"
#include "engine/model/read_me_pool.h"
#include "engine/model/weight_loader.h"
#include "kernels/device.h"

namespace pregate {

class ReadMeFfns {
 public:
  // `file` is that of a Read-ME model. `memory`: of experts at once, in bytes; 0: of all. Tied ones
  // that are more come and go in units of tiles, where `load`'s kernels and device can do that.
  ReadMeFfns(const ModelFile& file, ExpertStorage storage, int64_t memory, Device* device,
             const WeightLoader& load);

  // Whether a tensor of such a model is of its experts: what Load takes.
  static bool Takes(std::string_view tensor);

  // Whether experts that own a neuron share it; else each has a copy, which is a unit of its own.
  bool tied() const { return tied_; }

  // Of tied experts that come and go, the experts that need each unit; else none.
  const std::vector<uint64_t>& units() const { return units_; }

  // Makes the blocks and experts of one layer, and returns how many neurons they store. Their
  // matrices follow when `load` packs, until when `file`, `device` and this must be there.
  int64_t Load(int layer, WeightLoader& load, FfnWeights& ffn);

 private:
  struct Layer {
    std::vector<FfnPart> parts;
    NeuronPool pool;
    // Tied: its tiles, in runs of one unit each, in order.
    NeuronTiles tiles;
    std::vector<std::pair<int32_t, int64_t>> runs;  // unit, tiles
  };
  // Gate, up and down of neurons that lie together.
  struct BlockMatrix {
    DType dtype;
    int64_t out, in;
    std::function<void(char*)> write;
  };
  using BlockMatrices = std::array<BlockMatrix, 3>;

  BlockMatrices MatricesOf(const Layer& layer, absl::Span<const int32_t> neurons,
                           const WeightLoader& load) const;
  void MakeBlock(const Layer& layer, absl::Span<const int32_t> neurons, WeightLoader& load,
                 NeuronBlock& block) const;
  NeuronTiles Tile(const Layer& layer, double more, const WeightLoader& load) const;
  void TileAll(int64_t memory, const WeightLoader& load);
  bool CanBeApart(const WeightLoader& load) const;
  void AddExperts(const NeuronTiles& tiles, FfnWeights& ffn) const;
  void LoadTied(const Layer& layer, WeightLoader& load, FfnWeights& ffn) const;
  void LoadApart(int index, WeightLoader& load, FfnWeights& ffn);
  void LoadCopies(int index, WeightLoader& load, FfnWeights& ffn) const;

  const ModelFile& file_;
  Device& device_;
  std::vector<Layer> layers_;
  bool tied_ = false;
  std::vector<uint64_t> units_;
  int64_t apart_bytes_ = 0;  // of the addresses of what comes and goes, so far
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_READ_ME_WEIGHTS_H_
