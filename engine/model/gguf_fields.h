// Reads many metadata fields and remembers the first error, so that a list of fields reads as one.
#ifndef PREGATE_ENGINE_MODEL_GGUF_FIELDS_H_
#define PREGATE_ENGINE_MODEL_GGUF_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "engine/model/file_error.h"
#include "engine/model/gguf.h"

namespace pregate {

class GgufFields {
 public:
  // Keys are given without `prefix`.
  GgufFields(const GgufFile* file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  // The first error; values read after it mean nothing.
  const absl::Status& status() const { return status_; }
  void Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  std::string FullKey(std::string_view key) const { return absl::StrCat(prefix_, ToAbsl(key)); }

  // nullopt when absent; INVALID_ARGUMENT outside [min, max].
  std::optional<int64_t> OptionalInteger(std::string_view key, int64_t min, int64_t max) {
    const std::optional<int64_t> value = Take(file_->GetInteger(FullKey(key)));
    if (value && (*value < min || *value > max)) {
      Fail(Malformed(FullKey(key), absl::StrCat("must be in [", min, ", ", max, "]"),
                     absl::StrCat(*value)));
      return std::nullopt;
    }
    return value;
  }
  int64_t Integer(std::string_view key, int64_t min, int64_t max) {
    return Required(key, OptionalInteger(key, min, max));
  }
  std::optional<double> OptionalFloat(std::string_view key) {
    return Take(file_->GetFloat(FullKey(key)));
  }
  double Float(std::string_view key) { return Required(key, OptionalFloat(key)); }
  std::optional<bool> OptionalBool(std::string_view key) {
    return Take(file_->GetBool(FullKey(key)));
  }
  std::optional<std::string_view> OptionalString(std::string_view key) {
    return Take(file_->GetString(FullKey(key)));
  }
  std::string_view String(std::string_view key) { return Required(key, OptionalString(key)); }

 private:
  template <typename T>
  std::optional<T> Take(absl::StatusOr<std::optional<T>> value) {
    if (value.ok()) return *std::move(value);
    Fail(value.status());
    return std::nullopt;
  }
  template <typename T>
  T Required(std::string_view key, std::optional<T> value) {
    if (value) return *value;
    Fail(Malformed(FullKey(key), "must be given", "no such key"));
    return T();
  }

  const GgufFile* file_;
  std::string prefix_;
  absl::Status status_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_GGUF_FIELDS_H_
