#include "engine/quantization.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace pregate {

absl::StatusOr<std::optional<DType>> ParseQuantization(const std::string& name) {
  if (name == "none") return std::optional<DType>();
  for (const auto& [word, dtype] : {std::pair{"q8_0", DType::kQ8_0},
                                    {"q5_1", DType::kQ5_1},
                                    {"q5_0", DType::kQ5_0},
                                    {"q4_1", DType::kQ4_1},
                                    {"q4_0", DType::kQ4_0}}) {
    if (name == word) return std::optional<DType>(dtype);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("quantization: must be none, q8_0, q5_1, q5_0, q4_1 or q4_0; got ", name));
}

}  // namespace pregate
