#include "engine/model/kv_storage.h"

#include <cassert>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr int64_t kAlignment = 64;

// Bytes of one layer's keys (or values) of one block.
int64_t PartBytes(const ModelConfig& config, DType dtype, int32_t block_tokens) {
  const int64_t bytes = RowBytes(dtype, config.head_dim) * config.num_kv_heads * block_tokens;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

int64_t KvStorage::BlockBytes(const ModelConfig& config, DType dtype, int32_t block_tokens) {
  return 2 * config.num_layers * PartBytes(config, dtype, block_tokens);
}

absl::StatusOr<std::unique_ptr<KvStorage>> KvStorage::Create(Device* device,
                                                             const ModelConfig& config, DType dtype,
                                                             int32_t block_tokens,
                                                             int32_t num_blocks) {
  assert(dtype == DType::kF16 || dtype == DType::kQ8_0 || dtype == DType::kF32);
  assert(block_tokens > 0 && num_blocks > 0);
  if (config.head_dim % GetDTypeInfo(dtype).block_elements != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("kv-cache-dtype: must be f16 or f32 for a model whose head size is not a ",
                     "multiple of 32; got ", std::string(GetDTypeInfo(dtype).name)));
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
  // All layers of a block lie together, so that memory is touched only as blocks come into use.
  const int64_t part_bytes = PartBytes(config, dtype, block_tokens);
  char* const base = static_cast<char*>(kv->memory_.data());
  for (int layer = 0; layer < config.num_layers; ++layer) {
    KvLayerView& view = kv->layers_.emplace_back();
    view.keys = base + 2 * layer * part_bytes;
    view.values = base + (2 * layer + 1) * part_bytes;
    view.dtype = dtype;
    view.block_tokens = block_tokens;
    view.kv_heads = config.num_kv_heads;
    view.head_dim = config.head_dim;
    view.block_stride = block_bytes;
  }
  return kv;
}

}  // namespace pregate
