#include "engine/model/json_fields.h"

#include <cmath>
#include <limits>
#include <utility>

#include "engine/model/file_error.h"

namespace pregate {
namespace {

constexpr int kMaxDepth = 64;

// Whether brackets outside of strings nest at most kMaxDepth deep.
bool IsShallow(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return false;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view field) {
  if (!IsShallow(text)) {
    return Malformed(field, absl::StrCat("must nest at most ", kMaxDepth, " deep"),
                     "a deeper nest");
  }
  nlohmann::json parsed =
      nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) {
    return Malformed(field, "must be JSON", absl::StrCat(text.size(), " bytes that are not"));
  }
  if (!parsed.is_object()) return Malformed(field, "must be a JSON object", parsed.type_name());
  return parsed;
}

JsonFields::JsonFields(const nlohmann::json* object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

void JsonFields::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

std::string JsonFields::FullName(std::string_view name) const {
  return absl::StrCat(prefix_, ToAbsl(name));
}

void JsonFields::FailType(std::string_view name, std::string_view expected,
                          const nlohmann::json& value) {
  Fail(Malformed(FullName(name), absl::StrCat("must be ", ToAbsl(expected)), value.type_name()));
}

void JsonFields::FailMissing(std::string_view name) {
  Fail(Malformed(FullName(name), "must be given", "no such member"));
}

const nlohmann::json* JsonFields::Find(std::string_view name) const {
  const auto found = object_->find(name);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> JsonFields::OptionalInteger(std::string_view name, int64_t min,
                                                   int64_t max) {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) {
    FailType(name, "an integer", *value);
    return std::nullopt;
  }
  const bool huge =
      value->is_number_unsigned() &&
      value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (huge || value->get<int64_t>() < min || value->get<int64_t>() > max) {
    Fail(Malformed(FullName(name), absl::StrCat("must be in [", min, ", ", max, "]"),
                   value->dump()));
    return std::nullopt;
  }
  return value->get<int64_t>();
}

std::optional<double> JsonFields::OptionalFloat(std::string_view name) {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    FailType(name, "a number", *value);
    return std::nullopt;
  }
  const double number = value->get<double>();
  if (!std::isfinite(number)) {
    Fail(Malformed(FullName(name), "must be finite", absl::StrCat(number)));
    return std::nullopt;
  }
  return number;
}

std::optional<bool> JsonFields::OptionalBool(std::string_view name) {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    FailType(name, "true or false", *value);
    return std::nullopt;
  }
  return value->get<bool>();
}

std::optional<std::string> JsonFields::OptionalString(std::string_view name) {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    FailType(name, "a string", *value);
    return std::nullopt;
  }
  return value->get<std::string>();
}

const nlohmann::json* JsonFields::OptionalObject(std::string_view name) {
  const nlohmann::json* value = Find(name);
  if (value == nullptr || value->is_object()) return value;
  FailType(name, "an object", *value);
  return nullptr;
}

int64_t JsonFields::Integer(std::string_view name, int64_t min, int64_t max) {
  const std::optional<int64_t> value = OptionalInteger(name, min, max);
  if (!value) FailMissing(name);
  return value.value_or(0);
}

double JsonFields::Float(std::string_view name) {
  const std::optional<double> value = OptionalFloat(name);
  if (!value) FailMissing(name);
  return value.value_or(0.0);
}

std::string JsonFields::String(std::string_view name) {
  const std::optional<std::string> value = OptionalString(name);
  if (!value) FailMissing(name);
  return value.value_or("");
}

}  // namespace pregate
