#include "engine/model/kv_storage.h"

#include <cassert>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr int64_t kAlignment = 64;

// Bytes of one layer's keys (or values) of one block.
int64_t PartBytes(const KvLayerView& layer) {
  const int64_t bytes = KvPartBytes(layer) * layer.kv_heads;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The layers of a block without their memory: the model's, then the router's.
std::vector<KvLayerView> Shapes(const ModelConfig& config, DType dtype, int32_t block_tokens) {
  KvLayerView layer;
  layer.block_tokens = block_tokens;
  layer.dtype = dtype;
  layer.kv_heads = config.num_kv_heads;
  layer.head_dim = config.head_dim;
  std::vector<KvLayerView> layers(static_cast<size_t>(config.num_layers), layer);
  if (const ReadMeConfig& router = config.read_me; router.kv_layers() > 0) {
    layer.dtype = DType::kF32;
    layer.kv_heads = router.num_heads;
    layer.head_dim = router.head_dim();
    layers.insert(layers.end(), static_cast<size_t>(router.kv_layers()), layer);
  }
  return layers;
}

}  // namespace

int64_t KvStorage::BlockBytes(const ModelConfig& config, DType dtype, int32_t block_tokens) {
  int64_t bytes = 0;
  for (const KvLayerView& layer : Shapes(config, dtype, block_tokens))
    bytes += 2 * PartBytes(layer);
  return bytes;
}

absl::StatusOr<std::unique_ptr<KvStorage>> KvStorage::Create(Device* device,
                                                             const ModelConfig& config, DType dtype,
                                                             int32_t block_tokens,
                                                             int32_t num_blocks) {
  assert(block_tokens > 0 && num_blocks > 0);
  if (config.head_dim % GetDTypeInfo(dtype).block_elements != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "kv-cache-dtype: must be f16, bf16, fp8 or f32 for a model whose head size is ",
        "not a multiple of 32; got ", std::string(GetDTypeInfo(dtype).name)));
  }
  const int64_t block_bytes = BlockBytes(config, dtype, block_tokens);
  absl::StatusOr<DeviceBuffer> memory = device->Allocate(block_bytes * num_blocks);
  if (!memory.ok()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("kv cache: ", num_blocks, " blocks of ", block_bytes,
                     " bytes do not fit: ", memory.status().message()));
  }

  std::unique_ptr<KvStorage> kv(new KvStorage);
  kv->memory_ = *std::move(memory);
  kv->num_blocks_ = num_blocks;
  kv->block_tokens_ = block_tokens;
  kv->model_layers_ = config.num_layers;
  kv->layers_ = Shapes(config, dtype, block_tokens);
  // All layers of a block lie together, so that memory is touched only as blocks come into use.
  char* next = static_cast<char*>(kv->memory_.data());
  for (KvLayerView& layer : kv->layers_) {
    const int64_t part_bytes = PartBytes(layer);
    layer.keys = next;
    layer.values = next + part_bytes;
    layer.block_stride = block_bytes;
    next += 2 * part_bytes;
  }
  return kv;
}

}  // namespace pregate
