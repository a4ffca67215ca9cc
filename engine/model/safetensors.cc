#include "engine/model/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/model/checked.h"
#include "engine/model/file_error.h"
#include "engine/model/safetensors_header.h"

namespace pregate {
namespace {

constexpr uint64_t kLengthBytes = 8;

struct TypeInfo {
  std::string_view name;
  uint64_t bits;
};
constexpr TypeInfo kTypes[] = {
    {"F32", 32},    {"F16", 16},    {"BF16", 16},   {"F64", 64},    {"BOOL", 8},
    {"U8", 8},      {"I8", 8},      {"U16", 16},    {"I16", 16},    {"U32", 32},
    {"I32", 32},    {"U64", 64},    {"I64", 64},    {"C64", 64},    {"F8_E5M2", 8},
    {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
};

std::optional<DType> ServedType(std::string_view type) {
  if (type == "F32") return DType::kF32;
  if (type == "F16") return DType::kF16;
  if (type == "BF16") return DType::kBF16;
  if (type == "F8_E4M3") return DType::kF8E4M3;
  return std::nullopt;
}

// Bytes of a tensor by its type and shape; not ok() when they do not fit.
CheckedU64 TensorBytes(const SafetensorsEntry& entry, uint64_t bits) {
  CheckedU64 total = bits;
  for (const uint64_t dim : entry.shape) total = total * CheckedU64(dim);
  return total.ExactQuotient(8);
}

absl::StatusOr<SafetensorsTensor> MakeTensor(SafetensorsEntry entry, std::string_view data,
                                             std::string_view field) {
  const std::string name = absl::StrCat(ToAbsl(field), ": tensor ", absl::CHexEscape(entry.name));
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const TypeInfo& info) { return info.name == entry.type; });
  if (type == std::end(kTypes)) {
    return Malformed(name, "dtype must be one of the format's", Quoted(entry.type));
  }
  const CheckedU64 bytes = TensorBytes(entry, type->bits);
  if (!bytes.AtMost(std::numeric_limits<int64_t>::max())) {
    return Malformed(name, "its size must be whole bytes, below 2^60",
                     absl::StrCat(entry.shape.size(), " dimensions with another product"));
  }
  if (bytes.value() != data.size()) {
    return Malformed(name, absl::StrCat("dtype and shape make ", bytes.value(), " bytes"),
                     absl::StrCat(data.size(), " in data_offsets"));
  }
  SafetensorsTensor tensor{std::move(entry.name), std::move(entry.type), std::nullopt, {}, data};
  tensor.dtype = ServedType(tensor.type);
  for (const uint64_t dim : entry.shape) {
    // A zero elsewhere can hide a dimension that no integer of ours holds.
    if (dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Malformed(name, "every dimension must be below 2^63", absl::StrCat(dim));
    }
    tensor.shape.push_back(static_cast<int64_t>(dim));
  }
  return tensor;
}

// The header's text, after checking the length that stands before it.
absl::StatusOr<std::string_view> HeaderText(std::string_view file, std::string_view field) {
  static_assert(std::endian::native == std::endian::little);
  if (file.size() < kLengthBytes) {
    return Malformed(field, "truncated, must have 8 bytes of header length",
                     absl::StrCat(file.size(), " bytes"));
  }
  uint64_t length;
  std::memcpy(&length, file.data(), sizeof(length));
  if (length > kMaxSafetensorsHeaderBytes) {
    return Malformed(
        field, absl::StrCat("header must have at most ", kMaxSafetensorsHeaderBytes, " bytes"),
        absl::StrCat(length));
  }
  if (length > file.size() - kLengthBytes) {
    return Malformed(field,
                     absl::StrCat("truncated at byte ", file.size(), ", header must end there"),
                     absl::StrCat("a header of ", length, " bytes"));
  }
  const std::string_view header = file.substr(kLengthBytes, length);
  if (header.empty() || header.front() != '{') {
    return Malformed(field, "header must start with '{'", Quoted(header.substr(0, 1)));
  }
  return header;
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsTensor>> ParseSafetensors(std::string_view file,
                                                                std::string_view field) {
  const absl::StatusOr<std::string_view> header = HeaderText(file, field);
  if (!header.ok()) return header.status();
  absl::StatusOr<std::vector<SafetensorsEntry>> entries = ParseSafetensorsHeader(*header, field);
  if (!entries.ok()) return entries.status();
  std::sort(entries->begin(), entries->end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
            });

  const std::string_view data = file.substr(kLengthBytes + header->size());
  std::vector<SafetensorsTensor> tensors;
  tensors.reserve(entries->size());
  uint64_t covered = 0;
  for (SafetensorsEntry& entry : *entries) {
    if (entry.begin != covered || entry.end < entry.begin || entry.end > data.size()) {
      return Malformed(
          absl::StrCat(ToAbsl(field), ": tensor ", absl::CHexEscape(entry.name), ".data_offsets"),
          absl::StrCat("must start at ", covered, " and end within ", data.size(), " bytes"),
          absl::StrCat("[", entry.begin, ", ", entry.end, "]"));
    }
    covered = entry.end;
    const std::string_view bytes = data.substr(entry.begin, entry.end - entry.begin);
    absl::StatusOr<SafetensorsTensor> tensor = MakeTensor(std::move(entry), bytes, field);
    if (!tensor.ok()) return tensor.status();
    tensors.push_back(*std::move(tensor));
  }
  if (covered != data.size()) {
    return Malformed(field, absl::StrCat("tensors must cover all ", data.size(), " bytes of data"),
                     absl::StrCat(covered));
  }
  return tensors;
}

}  // namespace pregate
