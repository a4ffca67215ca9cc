#include "server/simulate_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace pregate {
namespace {

// In the order of ShadowPolicy.
constexpr const char* kShadows[kShadowPolicies] = {"random", "lru", "lfu", "static",
                                                   "belady_offline"};
constexpr const char* kCauses[kLoadCauses] = {"known", "guessed", "demand"};

// What a machine would take for one expert, in ms.
double ExpertMs(const SimulationReport& report, double per_byte) {
  return 1e3 * per_byte * static_cast<double>(report.expert_bytes);
}

std::string About(const SimulationReport& report) {
  std::string about = absl::StrFormat(
      "%d requests, %d experts; %d sequences, %s in a step", report.requests, report.experts,
      report.scheduler.max_num_seqs,
      report.scheduler.max_num_step_seqs == 0 ? "all"
                                              : absl::StrCat(report.scheduler.max_num_step_seqs));
  const SimulatedMachine& machine = report.machine;
  if (machine.fixed + machine.per_row + machine.per_byte > 0) {
    absl::StrAppendFormat(&about,
                          "\na step takes %.4g ms, %.4g a token, %.4g an expert; to load one "
                          "takes %.4g ms",
                          1e3 * machine.fixed, 1e3 * machine.per_row,
                          ExpertMs(report, machine.per_byte),
                          ExpertMs(report, machine.load_per_byte));
  }
  if (report.capacity > 0) {
    absl::StrAppendFormat(&about, "\na closed loop serves %.4g requests a second", report.capacity);
  }
  return about + "\n";
}

// The server's counts and what else they could have been. A row for each run.
std::string CacheTable(const SimulationReport& report) {
  std::string table =
      absl::StrFormat("\n%-13s %4s %4s %6s %6s %6s %6s %6s %6s %6s %8s %8s %8s %7s\n", "hits, %",
                      "fit", "load", "ours", "random", "lru", "lfu", "static", "belady", "floor",
                      "hits", "late", "misses", "wasted");
  bool any = false;
  for (const SimulationRow& row : report.rows) {
    const ExpertStats& experts = row.report.experts;
    if (!experts.has_cache) continue;
    any = true;
    absl::StrAppendFormat(&table, "%-13s %4s %4s %6.1f", row.recorded ? "as recorded" : row.policy,
                          row.experts_resident > 0 ? absl::StrCat(row.experts_resident) : "",
                          row.load > 0 ? absl::StrCat(row.load) : "", 100 * row.report.hit_ratio);
    for (const double ratio : row.report.shadow_hit_ratio) {
      absl::StrAppendFormat(&table, " %6.1f", 100 * ratio);
    }
    absl::StrAppendFormat(&table, " %6.1f %8d %8d %8d %7.2f\n", 100 * row.report.floor_hit_ratio,
                          experts.cache.hits, experts.cache.late, experts.cache.misses,
                          static_cast<double>(row.report.wasted_bytes) /
                              static_cast<double>(std::max<int64_t>(report.expert_bytes, 1)));
  }
  return any ? table : "";
}

nlohmann::ordered_json ToJson(const Distribution& distribution) {
  return {{"mean", distribution.mean},
          {"p50", distribution.p50},
          {"p95", distribution.p95},
          {"p99", distribution.p99},
          {"max", distribution.most}};
}

nlohmann::ordered_json ToJson(const SimulationRow& row) {
  const SimulateReport& report = row.report;
  const ExpertCacheStats& cache = report.experts.cache;
  nlohmann::ordered_json json = {{"policy", row.policy},
                                 {"recorded", row.recorded},
                                 {"experts_resident", row.experts_resident},
                                 {"load_percent", row.load},
                                 {"broken", report.broken},
                                 {"requests", report.requests},
                                 {"refused", report.refused},
                                 {"seconds", report.seconds},
                                 {"steps", report.steps},
                                 {"tokens", report.tokens},
                                 {"tokens_per_s", report.tokens_per_second},
                                 {"end_to_end_s", ToJson(report.end_to_end)},
                                 {"per_token_s", ToJson(report.per_token)},
                                 {"time_to_first_token_s", ToJson(report.first_token)},
                                 {"longest_gap_s", ToJson(report.longest_gap)},
                                 {"distinct_experts", report.distinct_experts},
                                 {"expert_steps", report.expert_steps},
                                 {"rows", report.rows},
                                 {"preemptions", report.preemptions},
                                 {"draft_tokens", report.draft_tokens},
                                 {"accepted_tokens", report.accepted_tokens},
                                 {"batching", Explain(report.experts.batching)},
                                 {"stall_s", report.stall_seconds},
                                 {"hit_ratio", report.hit_ratio},
                                 {"floor_hit_ratio", report.floor_hit_ratio},
                                 {"hits", cache.hits},
                                 {"late", cache.late},
                                 {"misses", cache.misses},
                                 {"load_bytes", report.load_bytes},
                                 {"wasted_bytes", report.wasted_bytes}};
  for (size_t shadow = 0; shadow < kShadowPolicies; ++shadow) {
    json["shadow_hit_ratio"][kShadows[shadow]] = report.shadow_hit_ratio[shadow];
  }
  for (size_t cause = 0; cause < kLoadCauses; ++cause) {
    json["loads"][kCauses[cause]] = cache.loads[cause];
  }
  return json;
}

}  // namespace

std::string SimulateTable(const SimulationReport& report) {
  std::string table = About(report);
  absl::StrAppendFormat(&table, "\n%-13s %4s %4s %8s %8s %8s %8s %8s %8s %8s %8s %8s %8s\n",
                        "seconds", "fit", "load", "tok/s", "mean", "p95", "p99", "ttft", "ttft p95",
                        "gap p95", "gap p99", "experts", "stall, %");
  for (const SimulationRow& row : report.rows) {
    const SimulateReport& run = row.report;
    absl::StrAppendFormat(
        &table, "%-13s %4s %4s %8.1f %8.3f %8.3f %8.3f %8.3f %8.3f %8.3f %8.3f %8.2f %8.1f\n",
        row.recorded ? "as recorded" : row.policy,
        row.experts_resident > 0 ? absl::StrCat(row.experts_resident) : "",
        row.load > 0 ? absl::StrCat(row.load) : "", run.tokens_per_second, run.end_to_end.mean,
        run.end_to_end.p95, run.end_to_end.p99, run.first_token.mean, run.first_token.p95,
        run.longest_gap.p95, run.longest_gap.p99, run.distinct_experts,
        run.seconds > 0 ? 100 * run.stall_seconds / run.seconds : 0);
  }
  return table + CacheTable(report);
}

std::string SimulateJson(const SimulationReport& report) {
  nlohmann::ordered_json json;
  json["experts"] = report.experts;
  json["requests"] = report.requests;
  json["recorded_steps"] = report.recorded_steps;
  json["max_num_seqs"] = report.scheduler.max_num_seqs;
  json["max_num_step_seqs"] = report.scheduler.max_num_step_seqs;
  json["machine"] = {{"step_ms", 1e3 * report.machine.fixed},
                     {"row_ms", 1e3 * report.machine.per_row},
                     {"expert_ms", ExpertMs(report, report.machine.per_byte)},
                     {"load_ms", ExpertMs(report, report.machine.load_per_byte)},
                     {"layers", report.machine.layers},
                     {"pipelined", report.machine.pipelined}};
  json["expert_bytes"] = report.expert_bytes;
  json["capacity_requests_per_s"] = report.capacity;
  json["rows"] = nlohmann::ordered_json::array();
  for (const SimulationRow& row : report.rows) json["rows"].push_back(ToJson(row));
  return json.dump(1) + "\n";
}

}  // namespace pregate
