// The JSON header of a safetensors file, read as a stream: memory grows with the tensors it names
// and not with what else is written there, and a name that comes twice is seen.
#ifndef PREGATE_ENGINE_MODEL_SAFETENSORS_HEADER_H_
#define PREGATE_ENGINE_MODEL_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

struct SafetensorsEntry {
  std::string name;
  std::string type;
  std::vector<uint64_t> shape;
  uint64_t begin = 0;  // of its bytes, from the end of the header
  uint64_t end = 0;
};

// In the order of the header; names are unique and every member was given once.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(std::string_view json,
                                                                     std::string_view field);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_SAFETENSORS_HEADER_H_
