// From options to what the scheduler must know of a model's experts.
#ifndef PREGATE_ENGINE_EXPERT_SETUP_H_
#define PREGATE_ENGINE_EXPERT_SETUP_H_

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/model_config.h"
#include "engine/model/transformer.h"
#include "engine/plan/expert_planner.h"

namespace pregate {

// Of a model without a pre-gating router: one expert, and the options are not looked at.
// INVALID_ARGUMENT "<flag>: <rule>; got <value>".
absl::StatusOr<ExpertConfig> MakeExpertConfig(const EngineOptions& options,
                                              const ModelConfig& model,
                                              const Transformer& transformer);

}  // namespace pregate

#endif  // PREGATE_ENGINE_EXPERT_SETUP_H_
