#include "server/open_inference/tensor.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "absl/strings/str_cat.h"
#include "server/generation/field_error.h"

namespace pregate {
namespace {

constexpr DataType kDataTypes[] = {
    {"BOOL", ValueKind::kBool, 1},       {"INT8", ValueKind::kSigned, 1},
    {"INT16", ValueKind::kSigned, 2},    {"INT32", ValueKind::kSigned, 4},
    {"INT64", ValueKind::kSigned, 8},    {"UINT8", ValueKind::kUnsigned, 1},
    {"UINT16", ValueKind::kUnsigned, 2}, {"UINT32", ValueKind::kUnsigned, 4},
    {"UINT64", ValueKind::kUnsigned, 8}, {"FP32", ValueKind::kReal, 4},
    {"FP64", ValueKind::kReal, 8},       {"BYTES", ValueKind::kBytes, 0},
};
constexpr char kDataTypeRule[] = "be BOOL, INT8...INT64, UINT8...UINT64, FP32, FP64 or BYTES";
constexpr size_t kLengthBytes = 4;

// Up to eight bytes, little endian.
uint64_t LittleEndian(absl::string_view bytes) {
  uint64_t number = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    number |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return number;
}

TensorValue Unsigned(uint64_t number) {
  if (number <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return static_cast<int64_t>(number);
  }
  return number;
}

// `bytes` are those of one element.
absl::StatusOr<TensorValue> ReadElement(absl::string_view field, const DataType& type,
                                        absl::string_view bytes) {
  const uint64_t number = LittleEndian(bytes);
  switch (type.kind) {
    case ValueKind::kBool:
      if (number > 1)
        return FieldError(field, "have bools of 0 or 1", static_cast<int64_t>(number));
      return number == 1;
    case ValueKind::kSigned: {
      const int spare = 64 - 8 * type.bytes;
      return static_cast<int64_t>(number << spare) >> spare;
    }
    case ValueKind::kUnsigned:
      return Unsigned(number);
    case ValueKind::kReal:
      if (type.bytes == 8) return std::bit_cast<double>(number);
      return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(number)));
    case ValueKind::kBytes:
      break;
  }
  return std::string(bytes);
}

}  // namespace

absl::StatusOr<TensorHead> ReadHead(absl::string_view field, absl::string_view datatype,
                                    absl::Span<const int64_t> shape) {
  TensorHead head;
  for (const DataType& type : kDataTypes) {
    if (datatype == type.name) head.type = &type;
  }
  if (head.type == nullptr) {
    return FieldError(absl::StrCat(field, ".datatype"), kDataTypeRule, datatype);
  }
  const std::string shape_field = absl::StrCat(field, ".shape");
  if (shape.empty() || static_cast<int64_t>(shape.size()) > kMaxDimensions) {
    return FieldError(shape_field, absl::StrCat("have 1 to ", kMaxDimensions, " dimensions"),
                      static_cast<int64_t>(shape.size()));
  }
  head.count = 1;
  for (const int64_t size : shape) {
    if (size < 1 || size > kMaxElements) {
      return FieldError(shape_field, absl::StrCat("have dimensions in [1, ", kMaxElements, "]"),
                        size);
    }
    head.count *= size;  // at most kMaxElements to the power of kMaxDimensions
  }
  if (head.count > kMaxElements) {
    return FieldError(shape_field, absl::StrCat("have at most ", kMaxElements, " elements"),
                      head.count);
  }
  return head;
}

absl::StatusOr<std::vector<TensorValue>> ReadRaw(absl::string_view field, const TensorHead& head,
                                                 absl::string_view bytes) {
  const DataType& type = *head.type;
  const absl::string_view all = bytes;
  auto wrong_size = [&] {
    return FieldError(field, absl::StrCat("have the bytes of ", head.count, " ", type.name),
                      static_cast<int64_t>(all.size()));
  };
  std::vector<TensorValue> values;
  for (int64_t i = 0; i < head.count; ++i) {
    uint64_t size = static_cast<uint64_t>(type.bytes);
    if (type.kind == ValueKind::kBytes) {
      if (bytes.size() < kLengthBytes) return wrong_size();
      size = LittleEndian(bytes.substr(0, kLengthBytes));
      bytes.remove_prefix(kLengthBytes);
    }
    if (bytes.size() < size) return wrong_size();
    absl::StatusOr<TensorValue> value = ReadElement(field, type, bytes.substr(0, size));
    if (!value.ok()) return value.status();
    values.push_back(*std::move(value));
    bytes.remove_prefix(size);
  }
  if (!bytes.empty()) return wrong_size();
  return values;
}

std::string RawBytes(absl::string_view element) {
  std::string raw;
  raw.reserve(kLengthBytes + element.size());
  for (size_t i = 0; i < kLengthBytes; ++i) {
    raw.push_back(static_cast<char>(element.size() >> (8 * i)));
  }
  raw.append(element.data(), element.size());
  return raw;
}

absl::Status CheckRange(absl::string_view field, const DataType& type, const TensorValue& value) {
  const auto* number = std::get_if<int64_t>(&value);
  const bool is_signed = type.kind == ValueKind::kSigned;
  if (number == nullptr || (!is_signed && type.kind != ValueKind::kUnsigned)) {
    return absl::OkStatus();
  }
  const int bits = 8 * type.bytes;
  const int64_t low = is_signed ? std::numeric_limits<int64_t>::min() >> (64 - bits) : 0;
  const int64_t high =
      std::numeric_limits<int64_t>::max() >> (is_signed ? 64 - bits : 63 - std::min(bits, 63));
  if (*number >= low && *number <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat("be in the range of ", type.name), *number);
}

std::string Shown(const TensorValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return Quoted(*text);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* real = std::get_if<double>(&value)) return absl::StrCat(*real);
  if (const auto* large = std::get_if<uint64_t>(&value)) return absl::StrCat(*large);
  return absl::StrCat(std::get<int64_t>(value));
}

}  // namespace pregate
