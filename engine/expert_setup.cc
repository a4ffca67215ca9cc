#include "engine/expert_setup.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/expert_names.h"

namespace pregate {

absl::StatusOr<ExpertConfig> MakeExpertConfig(const EngineOptions& options,
                                              const ModelConfig& model,
                                              const Transformer& transformer) {
  ExpertConfig config;
  if (model.read_me.num_experts == 0) return config;
  const absl::StatusOr<ExpertPolicy> policy = ParseExpertBatching(options.expert_batching);
  if (!policy.ok()) return policy.status();
  if (options.expert_batch_max_wait_steps < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expert-batch-max-wait-steps: must be >= 1; got ", options.expert_batch_max_wait_steps));
  }
  config.num_experts = model.read_me.num_experts;
  config.num_layers = model.num_layers;
  config.policy = *policy;
  config.max_wait_steps = options.expert_batch_max_wait_steps;
  for (const ExpertUnitSize& unit : transformer.ExpertUnits()) {
    config.units.push_back({.owners = unit.readers, .bytes = unit.bytes});
  }
  if (const ExpertStore* store = transformer.expert_store(); store != nullptr) {
    const absl::StatusOr<ExpertEviction> eviction = ParseExpertEviction(options.expert_eviction);
    if (!eviction.ok()) return eviction.status();
    std::vector<int64_t> needs(static_cast<size_t>(config.num_experts));
    for (size_t unit = 0; unit < config.units.size(); ++unit) {
      config.units[unit].bytes = store->unit_bytes(static_cast<int32_t>(unit));
      for (size_t e = 0; e < needs.size(); ++e) {
        if ((config.units[unit].owners >> e & 1) != 0) needs[e] += config.units[unit].bytes;
      }
    }
    const int64_t largest = *std::max_element(needs.begin(), needs.end());
    if (options.expert_cache_memory < largest) {
      return absl::InvalidArgumentError(
          absl::StrCat("expert-cache-memory: must hold the largest expert, ", largest,
                       " bytes; got ", options.expert_cache_memory));
    }
    config.cache_bytes = options.expert_cache_memory;
    config.host_bytes = store->host_cache_bytes();
    config.eviction = *eviction;
    config.prefetch = options.expert_prefetch;
  }
  return config;
}

}  // namespace pregate
