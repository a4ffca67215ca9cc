// Tensors of the Open Inference Protocol: small ones, read with suspicion.
#ifndef PREGATE_SERVER_OPEN_INFERENCE_TENSOR_H_
#define PREGATE_SERVER_OPEN_INFERENCE_TENSOR_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pregate {

// Whatever the datatype: integers of any width are int64_t where they fit it.
using TensorValue = std::variant<bool, int64_t, uint64_t, double, std::string>;

// How values are laid out.
enum class ValueKind : uint8_t { kBool, kSigned, kUnsigned, kReal, kBytes };
struct DataType {
  const char* name;  // "INT32"
  ValueKind kind;
  int32_t bytes;  // of an element; 0: each has its own length
};

// What a tensor says of itself.
struct TensorHead {
  const DataType* type = nullptr;
  int64_t count = 0;  // elements
};

inline constexpr int64_t kMaxElements = 16;
inline constexpr int64_t kMaxDimensions = 4;

// `field` begins every message: "inputs[2]". INVALID_ARGUMENT when the datatype is none of BOOL,
// INT8...64, UINT8...64, FP32, FP64, BYTES, when there are not 1 to kMaxDimensions dimensions of 1
// to kMaxElements, or more than kMaxElements elements in all.
absl::StatusOr<TensorHead> ReadHead(absl::string_view field, absl::string_view datatype,
                                    absl::Span<const int64_t> shape);

// Elements one after another, little endian, BYTES each after its length in four bytes. There must
// be exactly `head.count`.
absl::StatusOr<std::vector<TensorValue>> ReadRaw(absl::string_view field, const TensorHead& head,
                                                 absl::string_view bytes);
// One element of BYTES in that form.
std::string RawBytes(absl::string_view element);

// INVALID_ARGUMENT when a number is outside what its datatype holds.
absl::Status CheckRange(absl::string_view field, const DataType& type, const TensorValue& value);

// For messages: what a value is.
std::string Shown(const TensorValue& value);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPEN_INFERENCE_TENSOR_H_
