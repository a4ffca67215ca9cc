// The words of flags and traces for the policies of experts.
#ifndef PREGATE_ENGINE_EXPERT_NAMES_H_
#define PREGATE_ENGINE_EXPERT_NAMES_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/plan/expert_cache.h"
#include "engine/plan/expert_policy.h"

namespace pregate {

// INVALID_ARGUMENT "expert-batching: must be ...; got <name>", and so on.
absl::StatusOr<ExpertPolicy> ParseExpertBatching(const std::string& name);
absl::StatusOr<ExpertEviction> ParseExpertEviction(const std::string& name);

const char* NameOf(ExpertPolicy policy);
const char* NameOf(ExpertEviction eviction);

}  // namespace pregate

#endif  // PREGATE_ENGINE_EXPERT_NAMES_H_
