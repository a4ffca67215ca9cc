#include "engine/rank_setup.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/sharded_transformer.h"

namespace pregate {
namespace {

constexpr int32_t kMaxRanks = 64;

}  // namespace

absl::Status ValidateRanks(const EngineOptions& options) {
  const int32_t ranks = options.tensor_parallel_size;
  if (ranks < 1 || ranks > kMaxRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor-parallel-size: must be in [1, ", kMaxRanks, "]; got ", ranks));
  }
  if (options.enable_expert_parallel && ranks == 1) {
    return absl::InvalidArgumentError(
        "tensor-parallel-size: must be >= 2 with enable-expert-parallel; got 1");
  }
  if (options.expert_cache_memory > 0 && ranks > 1) {
    return absl::UnimplementedError(
        absl::StrCat("tensor-parallel-size: must be 1 with expert-cache-memory (experts that do ",
                     "not all fit run on one device); got ", ranks));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::unique_ptr<ModelShare>>> DealOut(const ModelFile& file,
                                                                 const EngineOptions& options) {
  const int32_t ranks = options.tensor_parallel_size;
  std::vector<std::unique_ptr<ModelShare>> shares;
  for (int32_t r = 0; r < ranks && ranks > 1; ++r) {
    absl::StatusOr<std::unique_ptr<ModelShare>> share =
        ModelShare::Create(file, {r, ranks, options.enable_expert_parallel});
    if (!share.ok()) return share.status();
    shares.push_back(*std::move(share));
  }
  return shares;
}

absl::StatusOr<std::unique_ptr<Transformer>> MakeTransformer(
    const ModelFile& file, std::vector<std::unique_ptr<ModelShare>> shares,
    const EngineOptions& options, absl::Span<const std::unique_ptr<Communicator>> ends,
    Device* device, const Kernels* kernels, const Transformer::Options& transformer_options) {
  if (shares.empty()) return Transformer::Create(file, device, kernels, transformer_options);
  const bool host_memory = device->host_memory();
  ShardedTransformer::Ranks ranks;
  ranks.may_spin = RanksMaySpin(*device, static_cast<int>(shares.size()));
  ranks.shares = std::move(shares);
  ranks.ends = ends;
  ranks.device = device;
  ranks.kernels = kernels;
  ranks.open = [options, host_memory](const ModelShare& share) {
    return OpenPeer(share, options, host_memory);
  };
  return ShardedTransformer::Create(std::move(ranks), transformer_options);
}

}  // namespace pregate
