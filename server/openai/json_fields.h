// JsonFields: typed reading of a JSON object's fields.
#ifndef PREGATE_SERVER_OPENAI_JSON_FIELDS_H_
#define PREGATE_SERVER_OPENAI_JSON_FIELDS_H_

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace pregate {

// INVALID_ARGUMENT "<field>: must <rule>; got <value>"; lists and objects are not shown whole.
absl::Status JsonFieldError(absl::string_view field, absl::string_view rule,
                            const nlohmann::json& got);

// A field that is absent or null leaves its target as it is. The first error stays; after it,
// nothing is read.
class JsonFields {
 public:
  // `object` must outlive this. `prefix` stands before the names in errors: "messages[0].".
  explicit JsonFields(const nlohmann::json* object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  const absl::Status& status() const { return status_; }
  void Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  std::string NameOf(absl::string_view field) const { return absl::StrCat(prefix_, field); }

  // Null when the field is absent or null, or something has failed.
  const nlohmann::json* Find(const char* field) const;

  void Bool(const char* field, bool* to);
  void Text(const char* field, std::string* to);
  // What a float cannot hold becomes infinite: no range has that.
  void Real(const char* field, float* to);
  template <typename T>
  void Integer(const char* field, T* to) {
    using Limits = std::numeric_limits<T>;
    int64_t value = 0;
    if (ReadInteger(field, Limits::min(), Limits::max(), &value)) *to = static_cast<T>(value);
  }
  template <typename T>
  void Integer(const char* field, std::optional<T>* to) {
    if (Find(field) != nullptr) Integer(field, &to->emplace());
  }
  // Any integer of 64 bits, with a sign or without.
  void Seed(const char* field, std::optional<uint64_t>* to);

 private:
  bool ReadInteger(const char* field, int64_t low, int64_t high, int64_t* to);
  void FailType(const char* field, absl::string_view rule, const nlohmann::json& got);

  const nlohmann::json* object_;
  std::string prefix_;
  absl::Status status_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_JSON_FIELDS_H_
