#include "engine/expert_names.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr std::pair<ExpertPolicy, const char*> kPolicies[] = {
    {ExpertPolicy::kAuto, "auto"},
    {ExpertPolicy::kFcfs, "off"},
    {ExpertPolicy::kPlanned, "on"},
    {ExpertPolicy::kPaper, "paper"},
    {ExpertPolicy::kDecodeFirst, "decode-first"},
    {ExpertPolicy::kPrefillFirst, "prefill-first"}};

constexpr std::pair<ExpertEviction, const char*> kEvictions[] = {
    {ExpertEviction::kPlanned, "planned"},
    {ExpertEviction::kLru, "lru"},
    {ExpertEviction::kLfu, "lfu"},
    {ExpertEviction::kRandom, "random"}};

}  // namespace

absl::StatusOr<ExpertPolicy> ParseExpertBatching(const std::string& name) {
  for (const auto& [policy, word] : kPolicies) {
    if (name == word) return policy;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "expert-batching: must be auto, off, on, paper, decode-first or prefill-first; got ", name));
}

absl::StatusOr<ExpertEviction> ParseExpertEviction(const std::string& name) {
  for (const auto& [eviction, word] : kEvictions) {
    if (name == word) return eviction;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("expert-eviction: must be planned, lru, lfu or random; got ", name));
}

const char* NameOf(ExpertPolicy policy) {
  for (const auto& [known, word] : kPolicies) {
    if (policy == known) return word;
  }
  return "";
}

const char* NameOf(ExpertEviction eviction) {
  for (const auto& [known, word] : kEvictions) {
    if (eviction == known) return word;
  }
  return "";
}

}  // namespace pregate
