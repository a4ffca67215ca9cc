#include "engine/engine_stats.h"

#include <algorithm>

namespace pregate {
namespace {

// The arrays of the two sides have the same entries in the same order.
static_assert(ExpertCounters::kCauses == kLoadCauses);
static_assert(ExpertCounters::kLookaheads == ExpertCacheStats::kLookaheads);
static_assert(ExpertCounters::kShadows == kShadowPolicies);

ExpertCounters CountersOf(const ExpertStats& now, int32_t num_experts) {
  ExpertCounters counters;
  counters.experts = num_experts;
  counters.hits = now.cache.hits;
  counters.late = now.cache.late;
  counters.misses = now.cache.misses;
  counters.loads = now.cache.loads;
  counters.load_bytes = now.cache.load_bytes;
  counters.wasted_bytes = now.cache.wasted_bytes;
  counters.lookahead = now.cache.lookahead;
  counters.lookahead_steps = now.cache.lookahead_steps;
  counters.all_resident = !now.has_cache;
  counters.shadow_hit_ratio = now.shadow_hit_ratio;
  counters.floor_hit_ratio = now.floor_hit_ratio;
  return counters;
}

}  // namespace

void FillStats(const SchedulerStats& now, const SchedulerConfig& config, EngineStats* stats) {
  stats->waiting = now.waiting;
  stats->running = now.running;
  stats->kv_cache_usage = static_cast<double>(now.blocks_used) / std::max(now.blocks_total, 1);
  stats->kv_blocks = now.blocks_total;
  stats->block_tokens = config.block_tokens;
  stats->preemptions = now.preemptions;
  stats->prefix_queries = now.prefix_queries;
  stats->prefix_hits = now.prefix_hits;
  stats->drafts = now.drafts;
  stats->draft_tokens = now.draft_tokens;
  stats->accepted_tokens = now.accepted_tokens;
  const int32_t experts = config.experts.num_experts;
  if (experts > 1) stats->experts = CountersOf(now.experts, experts);
}

std::vector<int32_t> CountByExpert(const BatchPlan& plan, int32_t num_experts) {
  std::vector<int32_t> rows(static_cast<size_t>(num_experts));
  for (const int32_t expert : plan.expert_ids) ++rows[static_cast<size_t>(expert)];
  return rows;
}

}  // namespace pregate
