// KvStorage: the memory behind KV block ids. It decides nothing.
#ifndef PREGATE_ENGINE_MODEL_KV_STORAGE_H_
#define PREGATE_ENGINE_MODEL_KV_STORAGE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

class KvStorage {
 public:
  // Bytes of one block of `block_tokens` positions, keys and values of all layers, those of a
  // router ahead of the model included.
  static int64_t BlockBytes(const ModelConfig& config, DType dtype, int32_t block_tokens);

  // `dtype` is that of the model's layers; a router's are kF32.
  // RESOURCE_EXHAUSTED, with the numbers, when the device has no room for `num_blocks`.
  static absl::StatusOr<std::unique_ptr<KvStorage>> Create(Device* device,
                                                           const ModelConfig& config, DType dtype,
                                                           int32_t block_tokens,
                                                           int32_t num_blocks);

  const KvLayerView& Layer(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  // Of the router (config.read_me.kv_layers() of them), in the same blocks.
  const KvLayerView& RouterLayer(int layer) const { return Layer(model_layers_ + layer); }
  int32_t num_blocks() const { return num_blocks_; }
  int32_t block_tokens() const { return block_tokens_; }

 private:
  KvStorage() = default;

  DeviceBuffer memory_;
  std::vector<KvLayerView> layers_;  // the model's, then the router's
  int32_t model_layers_ = 0;
  int32_t num_blocks_ = 0;
  int32_t block_tokens_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_KV_STORAGE_H_
