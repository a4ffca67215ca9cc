#include "engine/trace_config.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "engine/expert_names.h"

namespace pregate {
namespace {

constexpr std::string_view kDigits =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMost = int64_t{1} << 53;
constexpr int64_t kMaxBlocks = 1 << 24;
constexpr size_t kMaxUnits = 1 << 16;

std::string OwnersText(ExpertMask owners) {
  std::string text;
  for (size_t expert = 0; expert < kDigits.size(); ++expert) {
    if ((owners >> expert & 1) != 0) text += kDigits[expert];
  }
  return text;
}

// The whole numbers of a configuration: the same list writes and reads them. Old traces lack what
// is newer than they are, which has its default there.
struct Field {
  const char* name;
  int64_t low, high;
  int64_t value;
  bool newer;
  std::function<void(SchedulerConfig*, int64_t)> set;
};

std::vector<Field> FieldsOf(const SchedulerConfig& config) {
  std::vector<Field> fields;
  const auto add = [&](const char* name, int64_t low, int64_t high, auto member,
                       bool newer = false) {
    SchedulerConfig copy = config;
    fields.push_back({name, low, high, static_cast<int64_t>(member(copy)), newer,
                      [member](SchedulerConfig* target, int64_t value) {
                        auto& field = member(*target);
                        field = static_cast<std::remove_reference_t<decltype(field)>>(value);
                      }});
  };
  using C = SchedulerConfig;
  add(
      "max_num_seqs", 1, 4096, [](C & c) -> auto& { return c.max_num_seqs; });
  add(
      "max_num_batched_tokens", 1, 1 << 20,
      [](C & c) -> auto& { return c.max_num_batched_tokens; });
  add(
      "max_num_prefill_tokens", 1, 1 << 20,
      [](C & c) -> auto& { return c.max_num_prefill_tokens; });
  add(
      "max_num_step_seqs", 0, 4096, [](C & c) -> auto& { return c.max_num_step_seqs; });
  add(
      "max_logits", 1, 1 << 20, [](C & c) -> auto& { return c.max_logits; });
  add(
      "max_num_queued_reqs", 1, kMaxInt32, [](C & c) -> auto& { return c.max_num_queued_reqs; });
  add(
      "max_num_queued_tokens", 1, kMost, [](C & c) -> auto& { return c.max_num_queued_tokens; });
  add(
      "max_model_len", 1, kMaxInt32, [](C & c) -> auto& { return c.max_model_len; });
  add(
      "num_blocks", 1, kMaxBlocks, [](C & c) -> auto& { return c.num_blocks; });
  add(
      "block_tokens", 1, 1024, [](C & c) -> auto& { return c.block_tokens; });
  add(
      "prefix_caching", 0, 1, [](C & c) -> auto& { return c.enable_prefix_caching; });
  add(
      "priorities", 0, 1, [](C & c) -> auto& { return c.policy; });
  add(
      "max_preemptions", 0, kMaxInt32, [](C & c) -> auto& { return c.max_preemptions; });
  add(
      "wait_steps_max", 1, kMaxInt32, [](C & c) -> auto& { return c.wait_steps_max; });
  add(
      "layers", 1, 1 << 16, [](C & c) -> auto& { return c.experts.num_layers; });
  add(
      "max_wait_steps", 1, kMaxInt32, [](C & c) -> auto& { return c.experts.max_wait_steps; });
  add(
      "cache_bytes", 0, kMost, [](C & c) -> auto& { return c.experts.cache_bytes; });
  add(
      "prefetch", 0, 1, [](C & c) -> auto& { return c.experts.prefetch; });
  add(
      "max_draft_tokens", 0, 1 << 20, [](C & c) -> auto& { return c.max_draft_tokens; }, true);
  add(
      "router_lookahead_tokens", -1, kMaxRouterLookahead,
      [](C & c) -> auto& { return c.router_lookahead_tokens; }, true);
  return fields;
}

absl::Status Refuse(absl::string_view field, absl::string_view rule, const nlohmann::json& got) {
  return absl::InvalidArgumentError(absl::StrCat(
      field, ": must be ", rule, "; got ",
      got.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 80)));
}

// Null where the object has no such field.
const nlohmann::json& At(const nlohmann::json& json, const char* name) {
  static const nlohmann::json kNothing;
  const auto found = json.find(name);
  return found == json.end() ? kNothing : *found;
}

absl::Status ReadUnits(const nlohmann::json& json, ExpertConfig* experts) {
  const nlohmann::json& owners = At(json, "unit_owners");
  const nlohmann::json& bytes = At(json, "unit_bytes");
  if (!owners.is_string()) return Refuse("unit_owners", "a text", owners);
  const std::vector<std::string> sets =
      absl::StrSplit(owners.get_ref<const std::string&>(), ' ', absl::SkipEmpty());
  if (!bytes.is_array() || bytes.size() != sets.size() || sets.size() > kMaxUnits) {
    return Refuse("unit_bytes", "a number for each unit", bytes);
  }
  int64_t total = 0;
  for (size_t i = 0; i < sets.size(); ++i) {
    ExpertUnit unit;
    for (const char digit : sets[i]) {
      const size_t expert = kDigits.find(digit);
      if (expert >= static_cast<size_t>(experts->num_experts)) {
        return Refuse("unit_owners", "digits below the number of experts", sets[i]);
      }
      unit.owners |= ExpertMask{1} << expert;
    }
    if (!bytes[i].is_number_integer() || bytes[i] < 0 || bytes[i] > kMost - total) {
      return Refuse("unit_bytes", "bytes", bytes[i]);
    }
    unit.bytes = bytes[i].get<int64_t>();
    total += unit.bytes;
    experts->units.push_back(unit);
  }
  if (!HoldsAnyExpert(*experts)) {
    return Refuse("cache_bytes", "enough for any one expert", experts->cache_bytes);
  }
  return absl::OkStatus();
}

absl::StatusOr<SchedulerConfig> ReadConfig(const nlohmann::json& json, int32_t num_experts) {
  SchedulerConfig config;
  for (const Field& field : FieldsOf(config)) {
    const nlohmann::json& value = At(json, field.name);
    if (field.newer && value.is_null()) continue;
    if (!value.is_number_integer() || value < field.low || value > field.high) {
      return Refuse(field.name, absl::StrCat("in [", field.low, ", ", field.high, "]"), value);
    }
    field.set(&config, value.get<int64_t>());
  }
  if (config.max_logits < config.max_num_seqs) {
    return Refuse("max_logits", "at least max_num_seqs", config.max_logits);
  }
  ExpertConfig& experts = config.experts;
  experts.num_experts = num_experts;
  const nlohmann::json& gaps = At(json, "max_wait_gaps");
  if (!gaps.is_number() || !(gaps >= 0)) return Refuse("max_wait_gaps", "a number >= 0", gaps);
  experts.max_wait_gaps = gaps.get<double>();
  const nlohmann::json& batching = At(json, "expert_batching");
  const nlohmann::json& eviction = At(json, "expert_eviction");
  if (!batching.is_string()) return Refuse("expert_batching", "a text", batching);
  if (!eviction.is_string()) return Refuse("expert_eviction", "a text", eviction);
  const absl::StatusOr<ExpertPolicy> policy = ParseExpertBatching(batching.get<std::string>());
  if (!policy.ok()) return policy.status();
  const absl::StatusOr<ExpertEviction> evicts = ParseExpertEviction(eviction.get<std::string>());
  if (!evicts.ok()) return evicts.status();
  experts.policy = *policy;
  experts.eviction = *evicts;
  if (const absl::Status status = ReadUnits(json, &experts); !status.ok()) return status;
  return config;
}

}  // namespace

std::string ToLine(const SchedulerConfig& config) {
  nlohmann::ordered_json json = {{"server", 1}};
  for (const Field& field : FieldsOf(config)) json[field.name] = field.value;
  json["max_wait_gaps"] = config.experts.max_wait_gaps;
  json["expert_batching"] = NameOf(config.experts.policy);
  json["expert_eviction"] = NameOf(config.experts.eviction);
  std::vector<std::string> owners;
  json["unit_bytes"] = nlohmann::json::array();
  for (const ExpertUnit& unit : config.experts.units) {
    owners.push_back(OwnersText(unit.owners));
    json["unit_bytes"].push_back(unit.bytes);
  }
  json["unit_owners"] = absl::StrJoin(owners, " ");
  return json.dump() + "\n";
}

absl::StatusOr<std::optional<SchedulerConfig>> ReadServerConfig(std::string_view trace,
                                                                int32_t num_experts) {
  for (int64_t number = 1; !trace.empty(); ++number) {
    const std::string_view line = trace.substr(0, trace.find('\n'));
    trace.remove_prefix(std::min(line.size() + 1, trace.size()));
    if (line.find("\"server\"") == std::string_view::npos) continue;
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("server")) continue;
    absl::StatusOr<SchedulerConfig> config = ReadConfig(json, num_experts);
    if (!config.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": ", std::string(config.status().message())));
    }
    return *std::move(config);
  }
  return std::nullopt;
}

bool HoldsAnyExpert(const ExpertConfig& experts) {
  if (experts.cache_bytes == 0) return true;
  const ExpertMask all = ~ExpertMask{0} >> (kMaxExperts - experts.num_experts);
  for (int32_t expert = 0; expert < experts.num_experts; ++expert) {
    int64_t bytes = 0;
    for (const ExpertUnit& unit : experts.units) {
      const bool pinned = (unit.owners & all) == all;
      if (pinned || (unit.owners >> expert & 1) != 0) bytes += unit.bytes;
    }
    if (bytes > experts.cache_bytes) return false;
  }
  return true;
}

}  // namespace pregate
