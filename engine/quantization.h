// The words of `--quantization`.
#ifndef PREGATE_ENGINE_QUANTIZATION_H_
#define PREGATE_ENGINE_QUANTIZATION_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace pregate {

// What matrices of floats are quantised to: q8_0, q5_1, q5_0, q4_1, q4_0, or none: nothing.
// INVALID_ARGUMENT for other words.
absl::StatusOr<std::optional<DType>> ParseQuantization(const std::string& name);

}  // namespace pregate

#endif  // PREGATE_ENGINE_QUANTIZATION_H_
