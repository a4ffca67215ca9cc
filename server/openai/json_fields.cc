#include "server/openai/json_fields.h"

#include <cmath>

#include "server/generation/field_error.h"

namespace pregate {
namespace {

using nlohmann::json;

std::string Shown(const json& value) {
  if (value.is_string()) return Quoted(value.get_ref<const std::string&>());
  if (value.is_array()) return absl::StrCat("a list of ", value.size());
  if (value.is_object()) return "an object";
  return value.dump();
}

// A whole number, exactly as it was written, in [low, high].
bool IsIntegerIn(const json& value, int64_t low, int64_t high) {
  if (value.is_number_unsigned()) return value.get<uint64_t>() <= static_cast<uint64_t>(high);
  return value.is_number_integer() && value.get<int64_t>() >= low && value.get<int64_t>() <= high;
}

}  // namespace

absl::Status JsonFieldError(absl::string_view field, absl::string_view rule, const json& got) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": must ", rule, "; got ", Shown(got)));
}

const json* JsonFields::Find(const char* field) const {
  if (!status_.ok()) return nullptr;
  const auto it = object_->find(field);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

void JsonFields::FailType(const char* field, absl::string_view rule, const json& got) {
  Fail(JsonFieldError(NameOf(field), rule, got));
}

void JsonFields::Bool(const char* field, bool* to) {
  const json* value = Find(field);
  if (value == nullptr) return;
  if (!value->is_boolean()) return FailType(field, "be true or false", *value);
  *to = value->get<bool>();
}

void JsonFields::Text(const char* field, std::string* to) {
  const json* value = Find(field);
  if (value == nullptr) return;
  if (!value->is_string()) return FailType(field, "be a string", *value);
  *to = value->get_ref<const std::string&>();
}

void JsonFields::Real(const char* field, float* to) {
  const json* value = Find(field);
  if (value == nullptr) return;
  if (!value->is_number()) return FailType(field, "be a number", *value);
  const double number = value->get<double>();
  constexpr double kLargest = std::numeric_limits<float>::max();
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  *to = std::abs(number) <= kLargest ? static_cast<float>(number)
                                     : std::copysign(kInfinite, number < 0 ? -1.0f : 1.0f);
}

bool JsonFields::ReadInteger(const char* field, int64_t low, int64_t high, int64_t* to) {
  const json* value = Find(field);
  if (value == nullptr) return false;
  if (!IsIntegerIn(*value, low, high)) {
    FailType(field, absl::StrCat("be an integer in [", low, ", ", high, "]"), *value);
    return false;
  }
  *to = value->get<int64_t>();
  return true;
}

void JsonFields::Seed(const char* field, std::optional<uint64_t>* to) {
  const json* value = Find(field);
  if (value == nullptr) return;
  if (!value->is_number_integer()) return FailType(field, "be an integer of 64 bits", *value);
  *to = value->is_number_unsigned() ? value->get<uint64_t>()
                                    : static_cast<uint64_t>(value->get<int64_t>());
}

}  // namespace pregate
