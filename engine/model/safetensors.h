// Reader of safetensors files (huggingface/safetensors, README "Format"): an 8-byte header length,
// a JSON header, then the tensors' bytes, covered exactly and without overlap.
#ifndef PREGATE_ENGINE_MODEL_SAFETENSORS_H_
#define PREGATE_ENGINE_MODEL_SAFETENSORS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace pregate {

struct SafetensorsTensor {
  std::string name;
  std::string type;            // as the file spells it: "BF16", "I64", ...
  std::optional<DType> dtype;  // F32, F16, BF16 and F8_E4M3; nullopt for types that are not served
  std::vector<int64_t> shape;  // outermost first; may be empty, dimensions may be zero
  std::string_view data;       // in the file; not necessarily aligned
};

// Limits of one file. The first is the format's own; the second bounds memory.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr uint64_t kMaxSafetensorsTensors = 1 << 16;

// The tensors of a file in the order of their data. `file` must outlive the result.
// INVALID_ARGUMENT when broken; messages start with `field`.
absl::StatusOr<std::vector<SafetensorsTensor>> ParseSafetensors(std::string_view file,
                                                                std::string_view field);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_SAFETENSORS_H_
