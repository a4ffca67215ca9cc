// What one rank of several holds of a model: a model file like any other, of smaller matrices.
#ifndef PREGATE_ENGINE_MODEL_MODEL_SHARE_H_
#define PREGATE_ENGINE_MODEL_MODEL_SHARE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/model/model_file.h"

namespace pregate {

// Queries, keys, values, gates and ups are dealt out by output rows; the projections behind them by
// input columns, so that ranks' results add up (tensor parallelism: Megatron-LM, arXiv 1909.08053).
// Every rank has norms, gates of mixtures and the embedding table; a tied table besides as its
// share of the head. Nothing is copied: tensors are views of those of the file.
class ModelShare : public ModelFile {
 public:
  struct Part {
    int32_t rank = 0;
    int32_t size = 1;
    // Deals out whole experts of mixtures instead of neurons of each.
    bool by_expert = false;
  };
  // `file` must outlive this. INVALID_ARGUMENT, naming the numbers: the model cannot be cut into as
  // many parts; UNIMPLEMENTED: it cannot be cut.
  static absl::StatusOr<std::unique_ptr<ModelShare>> Create(const ModelFile& file,
                                                            const Part& part);

  const ModelConfig& config() const override { return config_; }
  const TokenizerSpec& tokenizer() const override { return file_.tokenizer(); }
  const std::string& chat_template() const override { return file_.chat_template(); }
  std::string_view format() const override { return file_.format(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const NeuronOwners& neuron_owners() const override { return neuron_owners_; }
  void Release(ConstTensor tensor) const override { file_.Release(tensor); }

  // Of the parameters here those that an earlier rank, or another tensor here, has as well.
  int64_t repeated_parameters() const { return repeated_parameters_; }

 protected:
  const TensorInfo* FindInfo(std::string_view name) const override;

 private:
  friend class ShareMaker;
  explicit ModelShare(const ModelFile& file) : file_(file) {}

  const ModelFile& file_;
  ModelConfig config_;
  std::vector<TensorInfo> tensors_;
  NeuronOwners neuron_owners_;
  int64_t repeated_parameters_ = 0;
  absl::flat_hash_map<std::string_view, size_t> by_name_;  // into tensors_
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_MODEL_SHARE_H_
