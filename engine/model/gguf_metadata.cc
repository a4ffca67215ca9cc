// Typed access to the metadata of a GGUF file.
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/model/gguf.h"
#include "engine/model/gguf_reader.h"
#include "engine/model/utf8.h"

namespace pregate {
namespace {

template <typename T>
T Decode(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

std::string DescribeValue(const GgufValue& value) {
  if (value.type != GgufType::kArray) return std::string(GgufTypeName(value.type));
  return absl::StrCat("array of ", ToAbsl(GgufTypeName(value.element_type)));
}

absl::Status WrongType(std::string_view key, std::string_view expected, const GgufValue& value) {
  return Malformed(absl::CHexEscape(ToAbsl(key)), absl::StrCat("must be ", ToAbsl(expected)),
                   DescribeValue(value));
}

// The elements of an array of plain numbers.
template <typename T>
std::vector<T> DecodeArray(const GgufValue& value) {
  std::vector<T> elements(value.count);
  if (!elements.empty()) std::memcpy(elements.data(), value.bytes.data(), value.bytes.size());
  return elements;
}

}  // namespace

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

absl::StatusOr<std::optional<int64_t>> GgufFile::GetInteger(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  switch (value->type) {
    case GgufType::kUint8:
      return Decode<uint8_t>(value->bytes);
    case GgufType::kInt8:
      return Decode<int8_t>(value->bytes);
    case GgufType::kUint16:
      return Decode<uint16_t>(value->bytes);
    case GgufType::kInt16:
      return Decode<int16_t>(value->bytes);
    case GgufType::kUint32:
      return Decode<uint32_t>(value->bytes);
    case GgufType::kInt32:
      return Decode<int32_t>(value->bytes);
    case GgufType::kInt64:
      return Decode<int64_t>(value->bytes);
    case GgufType::kUint64: {
      const auto number = Decode<uint64_t>(value->bytes);
      if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return Malformed(absl::CHexEscape(ToAbsl(key)), "must be below 2^63", absl::StrCat(number));
      }
      return static_cast<int64_t>(number);
    }
    default:
      return WrongType(key, "an integer", *value);
  }
}

absl::StatusOr<std::optional<double>> GgufFile::GetFloat(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  double number = 0;
  if (value->type == GgufType::kFloat32) {
    number = Decode<float>(value->bytes);
  } else if (value->type == GgufType::kFloat64) {
    number = Decode<double>(value->bytes);
  } else {
    return WrongType(key, "a float", *value);
  }
  if (!std::isfinite(number)) {
    return Malformed(absl::CHexEscape(ToAbsl(key)), "must be finite", absl::StrCat(number));
  }
  return number;
}

absl::StatusOr<std::optional<bool>> GgufFile::GetBool(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kBool) return WrongType(key, "a bool", *value);
  return Decode<uint8_t>(value->bytes) != 0;
}

absl::StatusOr<std::optional<std::string_view>> GgufFile::GetString(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kString) return WrongType(key, "a string", *value);
  return value->bytes;
}

absl::StatusOr<const GgufValue*> GgufFile::FindArray(std::string_view key, GgufType element_type,
                                                     uint64_t max_count) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return nullptr;
  if (value->type != GgufType::kArray || value->element_type != element_type) {
    return WrongType(key, absl::StrCat("an array of ", ToAbsl(GgufTypeName(element_type))), *value);
  }
  if (value->count > max_count) {
    return Malformed(absl::CHexEscape(ToAbsl(key)),
                     absl::StrCat("must have at most ", max_count, " elements"),
                     absl::StrCat(value->count));
  }
  return value;
}

absl::StatusOr<std::vector<std::string_view>> GgufFile::GetStrings(std::string_view key,
                                                                   uint64_t max_count) const {
  const auto value = FindArray(key, GgufType::kString, max_count);
  if (!value.ok()) return value.status();
  std::vector<std::string_view> strings;
  if (*value == nullptr) return strings;
  strings.reserve((*value)->count);
  GgufReader reader((*value)->bytes);
  for (uint64_t i = 0; i < (*value)->count; ++i) {
    const absl::StatusOr<std::string_view> text = reader.String(key);
    if (!text.ok()) return text.status();
    if (!IsValidUtf8(*text)) {
      return Malformed(absl::StrCat(absl::CHexEscape(ToAbsl(key)), "[", i, "]"), "must be UTF-8",
                       Quoted(*text));
    }
    strings.push_back(*text);
  }
  return strings;
}

absl::StatusOr<std::vector<float>> GgufFile::GetFloats(std::string_view key,
                                                       uint64_t max_count) const {
  const auto value = FindArray(key, GgufType::kFloat32, max_count);
  if (!value.ok()) return value.status();
  return *value == nullptr ? std::vector<float>() : DecodeArray<float>(**value);
}

absl::StatusOr<std::vector<int32_t>> GgufFile::GetInt32s(std::string_view key,
                                                         uint64_t max_count) const {
  const auto value = FindArray(key, GgufType::kInt32, max_count);
  if (!value.ok()) return value.status();
  return *value == nullptr ? std::vector<int32_t>() : DecodeArray<int32_t>(**value);
}

absl::StatusOr<std::string_view> GgufFile::GetBytes(std::string_view key,
                                                    uint64_t max_count) const {
  const GgufValue* stated = Find(key);
  const bool is_signed = stated != nullptr && stated->element_type == GgufType::kInt8;
  const auto value = FindArray(key, is_signed ? GgufType::kInt8 : GgufType::kUint8, max_count);
  if (!value.ok()) return value.status();
  return *value == nullptr ? std::string_view() : (*value)->bytes;
}

absl::StatusOr<std::vector<bool>> GgufFile::GetBools(std::string_view key,
                                                     uint64_t max_count) const {
  const auto value = FindArray(key, GgufType::kBool, max_count);
  if (!value.ok()) return value.status();
  std::vector<bool> flags;
  if (*value == nullptr) return flags;
  for (const char byte : (*value)->bytes) flags.push_back(byte != 0);
  return flags;
}

}  // namespace pregate
