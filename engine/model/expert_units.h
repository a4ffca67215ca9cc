// What the experts of a Read-ME model need of memory, for those who plan steps.
#ifndef PREGATE_ENGINE_MODEL_EXPERT_UNITS_H_
#define PREGATE_ENGINE_MODEL_EXPERT_UNITS_H_

#include <vector>

#include "engine/model/transformer.h"
#include "engine/model/weights.h"
#include "kernels/kernels.h"

namespace pregate {

// Every expert weight is in one unit; in order of the readers.
std::vector<ExpertUnitSize> CountExpertUnits(const Weights& weights, const Kernels& kernels);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_EXPERT_UNITS_H_
