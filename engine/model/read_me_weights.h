// The FFNs of a Read-ME model, from any form of checkpoint to the form that they run in.
#ifndef PREGATE_ENGINE_MODEL_READ_ME_WEIGHTS_H_
#define PREGATE_ENGINE_MODEL_READ_ME_WEIGHTS_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/model/ffn_weights.h"
#include "engine/model/model_file.h"
#include "engine/model/read_me_pool.h"
#include "engine/model/weight_loader.h"
#include "kernels/device.h"

namespace pregate {

class ReadMeFfns {
 public:
  // `file` is that of a Read-ME model.
  ReadMeFfns(const ModelFile& file, ExpertStorage storage, Device* device);

  // Whether a tensor of such a model is of its experts: what Load takes.
  static bool Takes(std::string_view tensor);

  // Whether experts that own a neuron share it; else each has a copy, which is a unit of its own.
  bool tied() const { return tied_; }

  // Makes the blocks and experts of one layer. Their matrices follow when `load` packs, until when
  // `file`, `device` and this must be there.
  void Load(int layer, WeightLoader& load, FfnWeights& ffn) const;

 private:
  struct Layer {
    std::vector<FfnPart> parts;
    NeuronPool pool;
  };

  void MakeBlock(const Layer& layer, const std::vector<int32_t>& neurons, WeightLoader& load,
                 NeuronBlock& block) const;
  void LoadTied(const Layer& layer, WeightLoader& load, FfnWeights& ffn) const;
  void LoadCopies(int index, WeightLoader& load, FfnWeights& ffn) const;

  const ModelFile& file_;
  Device& device_;
  std::vector<Layer> layers_;
  bool tied_ = false;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_READ_ME_WEIGHTS_H_
