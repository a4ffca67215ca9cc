// Reader of GGUF files, versions 2 and 3, little-endian (ggml's docs/gguf.md).
//
// It trusts nothing: every length, count and offset is compared with the bytes that are there
// before it is used, keys and tensors are unique, and tensor data lies side by side within the
// file. What it returns points into the file's bytes; metadata is decoded only when asked for.
#ifndef PREGATE_ENGINE_MODEL_GGUF_H_
#define PREGATE_ENGINE_MODEL_GGUF_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace pregate {

enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};
inline constexpr uint32_t kNumGgufTypes = 13;
std::string_view GgufTypeName(GgufType type);

// One metadata value, still encoded.
struct GgufValue {
  GgufType type = GgufType::kUint8;
  GgufType element_type = GgufType::kUint8;  // of an array's elements; otherwise as `type`
  uint64_t count = 1;                        // elements of an array
  // The encoded elements; for a string, its characters (UTF-8, checked). Strings inside an array
  // still carry their 64-bit lengths in front, which lie within `bytes`.
  std::string_view bytes;
};

struct GgufTensor {
  std::string_view name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // outermost first; 1 to 4 dimensions, none zero
  std::string_view data;       // in the file, aligned to the file's alignment
};

class GgufFile {
 public:
  // Limits that no real file comes near; they bound memory where the file's size does not.
  static constexpr uint64_t kMaxMetadata = 1 << 16;
  static constexpr uint64_t kMaxTensors = 1 << 16;
  static constexpr uint64_t kMaxKeyBytes = (1 << 16) - 1;  // as the format says
  static constexpr uint64_t kMaxTensorNameBytes = 64;      // as the format says
  static constexpr uint64_t kMaxAlignment = 1 << 20;

  // `file` must outlive the result. INVALID_ARGUMENT names the broken field, UNIMPLEMENTED the
  // tensor whose type is not served.
  static absl::StatusOr<GgufFile> Parse(std::string_view file);

  uint32_t version() const { return version_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  // nullptr when absent.
  const GgufValue* Find(std::string_view key) const;

  // Typed access: nullopt when the key is absent, INVALID_ARGUMENT when it is of another type or
  // out of range. GetInteger takes every integer type; GetFloat both float types, finite.
  absl::StatusOr<std::optional<int64_t>> GetInteger(std::string_view key) const;
  absl::StatusOr<std::optional<double>> GetFloat(std::string_view key) const;
  absl::StatusOr<std::optional<bool>> GetBool(std::string_view key) const;
  absl::StatusOr<std::optional<std::string_view>> GetString(std::string_view key) const;
  // Arrays of exactly this element type; empty when the key is absent. More than `max_count`
  // elements are refused. Strings are checked to be UTF-8 and point into the file.
  absl::StatusOr<std::vector<std::string_view>> GetStrings(std::string_view key,
                                                           uint64_t max_count) const;
  absl::StatusOr<std::vector<float>> GetFloats(std::string_view key, uint64_t max_count) const;
  absl::StatusOr<std::vector<int32_t>> GetInt32s(std::string_view key, uint64_t max_count) const;
  // Bytes, signed or not.
  absl::StatusOr<std::string_view> GetBytes(std::string_view key, uint64_t max_count) const;
  absl::StatusOr<std::vector<bool>> GetBools(std::string_view key, uint64_t max_count) const;

 private:
  // The value of `key` when it is an array of `element_type` with at most `max_count` elements.
  absl::StatusOr<const GgufValue*> FindArray(std::string_view key, GgufType element_type,
                                             uint64_t max_count) const;

  uint32_t version_ = 0;
  absl::flat_hash_map<std::string_view, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_GGUF_H_
