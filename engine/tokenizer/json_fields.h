// Reading fields of parsed JSON without exceptions: what is absent or of another type is a default.
#ifndef PREGATE_ENGINE_TOKENIZER_JSON_FIELDS_H_
#define PREGATE_ENGINE_TOKENIZER_JSON_FIELDS_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace pregate {

using Json = nlohmann::json;

// The member, or JSON null.
inline const Json& Field(const Json& object, const char* name) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

inline std::string StringOf(const Json& value) {
  return value.is_string() ? *value.get_ptr<const Json::string_t*>() : std::string();
}

inline std::string StringField(const Json& object, const char* name) {
  return StringOf(Field(object, name));
}

inline bool BoolField(const Json& object, const char* name, bool otherwise) {
  const Json& value = Field(object, name);
  return value.is_boolean() ? *value.get_ptr<const Json::boolean_t*>() : otherwise;
}

// A number that is a token id below `limit`, or -1.
inline int32_t IdOf(const Json& value, int32_t limit) {
  if (!value.is_number_unsigned()) return -1;
  const auto number = *value.get_ptr<const Json::number_unsigned_t*>();
  return number < static_cast<uint64_t>(limit) ? static_cast<int32_t>(number) : -1;
}

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_JSON_FIELDS_H_
