// Reads members of a JSON object and remembers the first error, so that a list of members reads as
// one. A member that is null counts as absent, as in the files that Hugging Face writes.
#ifndef PREGATE_ENGINE_MODEL_JSON_FIELDS_H_
#define PREGATE_ENGINE_MODEL_JSON_FIELDS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pregate {

// The object that `text` spells. INVALID_ARGUMENT, naming `field`, when it is not JSON (strict, in
// UTF-8), not an object, or nested deeper than 64.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view field);

class JsonFields {
 public:
  // `object` must be an object and outlive this; `prefix` stands before the names in messages.
  JsonFields(const nlohmann::json* object, std::string prefix);

  // The first error; values read after it mean nothing.
  const absl::Status& status() const { return status_; }
  void Fail(absl::Status status);
  std::string FullName(std::string_view name) const;

  // nullptr when absent or null.
  const nlohmann::json* Find(std::string_view name) const;

  // nullopt when absent; INVALID_ARGUMENT when of another type or outside [min, max].
  std::optional<int64_t> OptionalInteger(std::string_view name, int64_t min, int64_t max);
  std::optional<double> OptionalFloat(std::string_view name);
  std::optional<bool> OptionalBool(std::string_view name);
  std::optional<std::string> OptionalString(std::string_view name);
  const nlohmann::json* OptionalObject(std::string_view name);

  // INVALID_ARGUMENT also when absent.
  int64_t Integer(std::string_view name, int64_t min, int64_t max);
  double Float(std::string_view name);
  std::string String(std::string_view name);

 private:
  void FailType(std::string_view name, std::string_view expected, const nlohmann::json& value);
  void FailMissing(std::string_view name);

  const nlohmann::json* object_;
  std::string prefix_;
  absl::Status status_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_JSON_FIELDS_H_
