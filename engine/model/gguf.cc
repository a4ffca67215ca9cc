#include "engine/model/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "engine/model/checked.h"
#include "engine/model/gguf_reader.h"
#include "engine/model/utf8.h"

namespace pregate {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kMaxDimensions = 4;

struct TypeInfo {
  std::string_view name;
  uint64_t bytes;  // of one element; 0: it varies
};
constexpr std::array<TypeInfo, kNumGgufTypes> kTypes = {{
    {"uint8", 1},
    {"int8", 1},
    {"uint16", 2},
    {"int16", 2},
    {"uint32", 4},
    {"int32", 4},
    {"float32", 4},
    {"bool", 1},
    {"string", 0},
    {"array", 0},
    {"uint64", 8},
    {"int64", 8},
    {"float64", 8},
}};
uint64_t ElementBytes(GgufType type) { return kTypes[static_cast<size_t>(type)].bytes; }

// `ggml_type` numbers.
std::optional<DType> ServedType(uint32_t ggml_type) {
  switch (ggml_type) {
    case 0:
      return DType::kF32;
    case 1:
      return DType::kF16;
    case 2:
      return DType::kQ4_0;
    case 3:
      return DType::kQ4_1;
    case 6:
      return DType::kQ5_0;
    case 7:
      return DType::kQ5_1;
    case 8:
      return DType::kQ8_0;
    case 12:
      return DType::kQ4_K;
    case 13:
      return DType::kQ5_K;
    case 14:
      return DType::kQ6_K;
    case 30:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

// The number, and its name where ggml gives it one, of a type that is not served.
std::string DescribeType(uint32_t ggml_type) {
  constexpr std::pair<uint32_t, std::string_view> kNames[] = {
      {9, "Q8_1"},    {10, "Q2_K"},    {11, "Q3_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"},
      {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
      {22, "IQ2_S"},  {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {26, "I32"},
      {27, "I64"},    {28, "F64"},     {29, "IQ1_M"}, {34, "TQ1_0"},  {35, "TQ2_0"},
      {39, "MXFP4"},
  };
  for (const auto& [number, name] : kNames) {
    if (number == ggml_type) return absl::StrCat(ToAbsl(name), " (type ", ggml_type, ")");
  }
  return absl::StrCat("type ", ggml_type);
}

absl::StatusOr<GgufType> ReadType(GgufReader& reader, std::string_view field) {
  const absl::StatusOr<uint32_t> type = reader.Number<uint32_t>(field);
  if (!type.ok()) return type.status();
  if (*type >= kNumGgufTypes) {
    return Malformed(field, "value type must be below 13", absl::StrCat(*type));
  }
  return static_cast<GgufType>(*type);
}

absl::StatusOr<std::string_view> ReadText(GgufReader& reader, std::string_view field) {
  absl::StatusOr<std::string_view> text = reader.String(field);
  if (text.ok() && !IsValidUtf8(*text)) return Malformed(field, "must be UTF-8", Quoted(*text));
  return text;
}

absl::StatusOr<GgufValue> ReadArray(GgufReader& reader, std::string_view field) {
  const absl::StatusOr<GgufType> element_type = ReadType(reader, field);
  if (!element_type.ok()) return element_type.status();
  if (*element_type == GgufType::kArray) {
    return Malformed(field, "elements must not be arrays themselves", "an array of arrays");
  }
  const absl::StatusOr<uint64_t> count = reader.Number<uint64_t>(field);
  if (!count.ok()) return count.status();
  GgufValue array{GgufType::kArray, *element_type, *count, {}};
  if (*element_type != GgufType::kString) {
    const CheckedU64 bytes = CheckedU64(*count) * ElementBytes(*element_type);
    if (!bytes.AtMost(reader.remaining())) {
      return Malformed(
          field,
          absl::StrCat("truncated, must have at most ", reader.remaining(), " bytes of elements"),
          absl::StrCat(*count, " elements of ", ElementBytes(*element_type)));
    }
    array.bytes = *reader.Take(bytes.value(), field);
    return array;
  }
  GgufReader start = reader;
  for (uint64_t i = 0; i < *count; ++i) {  // ends at the end of the file at the latest
    if (const auto element = reader.String(field); !element.ok()) return element.status();
  }
  array.bytes = *start.Take(reader.position() - start.position(), field);
  return array;
}

absl::StatusOr<GgufValue> ReadValue(GgufReader& reader, std::string_view field) {
  const absl::StatusOr<GgufType> type = ReadType(reader, field);
  if (!type.ok()) return type.status();
  if (*type == GgufType::kArray) return ReadArray(reader, field);
  const absl::StatusOr<std::string_view> bytes = *type == GgufType::kString
                                                     ? ReadText(reader, field)
                                                     : reader.Take(ElementBytes(*type), field);
  if (!bytes.ok()) return bytes.status();
  return GgufValue{*type, *type, 1, *bytes};
}

absl::StatusOr<std::string_view> ReadKey(GgufReader& reader, std::string_view field) {
  absl::StatusOr<std::string_view> key = ReadText(reader, field);
  if (!key.ok()) return key;
  if (key->empty() || key->size() > GgufFile::kMaxKeyBytes) {
    return Malformed(field, absl::StrCat("must have 1 to ", GgufFile::kMaxKeyBytes, " bytes"),
                     absl::StrCat(key->size()));
  }
  if (key->find('\0') != std::string_view::npos) {
    return Malformed(field, "must not contain a NUL", Quoted(*key));
  }
  return key;
}

absl::Status CheckCount(std::string_view field, uint64_t count, uint64_t limit) {
  if (count <= limit) return absl::OkStatus();
  return Malformed(field, absl::StrCat("must be at most ", limit), absl::StrCat(count));
}

// What a tensor's header says, before its place in the file is known to exist.
struct TensorHeader {
  GgufTensor tensor;
  uint64_t offset = 0;  // from the start of the data
  uint64_t bytes = 0;
};

absl::Status ReadShape(GgufReader& reader, const std::string& field, TensorHeader& header) {
  const absl::StatusOr<uint32_t> num_dims = reader.Number<uint32_t>(field);
  if (!num_dims.ok()) return num_dims.status();
  if (*num_dims == 0 || *num_dims > kMaxDimensions) {
    return Malformed(field, "must have 1 to 4 dimensions", absl::StrCat(*num_dims));
  }
  for (uint32_t i = 0; i < *num_dims; ++i) {
    const absl::StatusOr<uint64_t> dim = reader.Number<uint64_t>(field);
    if (!dim.ok()) return dim.status();
    if (*dim == 0 || *dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Malformed(field, "every dimension must be in [1, 2^63)", absl::StrCat(*dim));
    }
    header.tensor.shape.push_back(static_cast<int64_t>(*dim));
  }
  std::reverse(header.tensor.shape.begin(), header.tensor.shape.end());
  return absl::OkStatus();
}

absl::Status ComputeBytes(const std::string& field, TensorHeader& header) {
  const DTypeInfo& type = GetDTypeInfo(header.tensor.dtype);
  const auto cols = static_cast<uint64_t>(header.tensor.shape.back());
  const CheckedU64 blocks = CheckedU64(cols).ExactQuotient(type.block_elements);
  if (!blocks.ok()) {
    return Malformed(field,
                     absl::StrCat("a row of ", ToAbsl(type.name), " must be a multiple of ",
                                  type.block_elements, " elements"),
                     absl::StrCat(cols));
  }
  CheckedU64 elements = 1;
  for (const int64_t dim : header.tensor.shape) {
    elements = elements * CheckedU64(static_cast<uint64_t>(dim));
  }
  CheckedU64 bytes = blocks * CheckedU64(type.block_bytes);
  for (size_t i = 0; i + 1 < header.tensor.shape.size(); ++i) {
    bytes = bytes * CheckedU64(static_cast<uint64_t>(header.tensor.shape[i]));
  }
  if (!elements.AtMost(std::numeric_limits<int64_t>::max()) ||
      !bytes.AtMost(std::numeric_limits<int64_t>::max())) {
    return Malformed(field, "its size must be below 2^63",
                     absl::StrCat(header.tensor.shape.size(), " dimensions with a larger product"));
  }
  header.bytes = bytes.value();
  return absl::OkStatus();
}

absl::StatusOr<TensorHeader> ReadTensorHeader(GgufReader& reader, uint64_t index) {
  std::string field = absl::StrCat("tensors[", index, "]");
  TensorHeader header;
  const absl::StatusOr<std::string_view> name = ReadText(reader, field + ".name");
  if (!name.ok()) return name.status();
  if (name->empty() || name->size() > GgufFile::kMaxTensorNameBytes ||
      name->find('\0') != std::string_view::npos) {
    return Malformed(field + ".name", "must have 1 to 64 bytes and no NUL", Quoted(*name));
  }
  header.tensor.name = *name;
  field = absl::StrCat("tensor ", absl::CHexEscape(ToAbsl(*name)));
  if (const absl::Status shape = ReadShape(reader, field, header); !shape.ok()) return shape;
  const absl::StatusOr<uint32_t> type = reader.Number<uint32_t>(field);
  if (!type.ok()) return type.status();
  const std::optional<DType> served = ServedType(*type);
  if (!served) {
    return NotServed(
        field, "type must be F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K",
        DescribeType(*type));
  }
  header.tensor.dtype = *served;
  const absl::StatusOr<uint64_t> offset = reader.Number<uint64_t>(field);
  if (!offset.ok()) return offset.status();
  header.offset = *offset;
  if (const absl::Status bytes = ComputeBytes(field, header); !bytes.ok()) return bytes;
  return header;
}

// Gives every tensor its bytes. In the order of their offsets they must lie side by side, with no
// more between them than alignment asks for, so that no byte is used twice or hidden.
absl::Status PlaceTensors(std::string_view file, CheckedU64 data_start, uint64_t alignment,
                          std::vector<TensorHeader>& headers) {
  std::vector<TensorHeader*> by_offset;
  by_offset.reserve(headers.size());
  for (TensorHeader& header : headers) by_offset.push_back(&header);
  std::sort(by_offset.begin(), by_offset.end(),
            [](const TensorHeader* a, const TensorHeader* b) { return a->offset < b->offset; });
  CheckedU64 expected = 0;
  for (TensorHeader* header : by_offset) {
    const std::string field =
        absl::StrCat("tensor ", absl::CHexEscape(ToAbsl(header->tensor.name)), ".offset");
    if (header->offset % alignment != 0) {
      return Malformed(field, absl::StrCat("must be a multiple of ", alignment),
                       absl::StrCat(header->offset));
    }
    const CheckedU64 begin = data_start + header->offset;
    const CheckedU64 end = begin + header->bytes;
    if (!end.AtMost(file.size())) {
      return Malformed(
          field,
          absl::StrCat("data must end within the file of ", file.size(), " bytes (truncated?)"),
          absl::StrCat("offset ", header->offset, " and ", header->bytes, " bytes"));
    }
    // `end` fits the file, so `expected`, which grew from such numbers, is exact.
    if (header->offset != expected.value()) {
      return Malformed(field,
                       "tensors must lie side by side: no overlap, no gap; must be " +
                           absl::StrCat(expected.value()),
                       absl::StrCat(header->offset));
    }
    header->tensor.data = file.substr(begin.value(), header->bytes);
    expected = (CheckedU64(header->offset) + header->bytes).RoundUp(alignment);
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> ReadVersion(GgufReader& reader) {
  const absl::StatusOr<std::string_view> magic = reader.Take(kMagic.size(), "gguf.magic");
  if (!magic.ok()) return magic.status();
  if (*magic != kMagic) return Malformed("gguf.magic", "must be 'GGUF'", Quoted(*magic));
  absl::StatusOr<uint32_t> version = reader.Number<uint32_t>("gguf.version");
  if (version.ok() && *version != 2 && *version != 3) {
    // Big-endian files have the version's bytes the other way round.
    const bool swapped = *version != 0 && (*version & 0xFFFF) == 0;
    return Malformed("gguf.version", "must be 2 or 3, little-endian",
                     swapped ? "a big-endian file" : absl::StrCat(*version));
  }
  return version;
}

absl::StatusOr<uint64_t> ReadAlignment(const GgufFile& file) {
  const auto stated = file.GetInteger("general.alignment");
  if (!stated.ok()) return stated.status();
  if (!stated->has_value()) return kDefaultAlignment;
  const int64_t value = **stated;
  if (value < 8 || value > static_cast<int64_t>(GgufFile::kMaxAlignment) ||
      !std::has_single_bit(static_cast<uint64_t>(value))) {
    return Malformed("general.alignment", "must be a power of two in [8, 2^20]",
                     absl::StrCat(value));
  }
  return static_cast<uint64_t>(value);
}

}  // namespace

std::string_view GgufTypeName(GgufType type) { return kTypes[static_cast<size_t>(type)].name; }

absl::StatusOr<GgufFile> GgufFile::Parse(std::string_view file) {
  GgufReader reader(file);
  GgufFile result;
  const absl::StatusOr<uint32_t> version = ReadVersion(reader);
  if (!version.ok()) return version.status();
  result.version_ = *version;
  const auto num_tensors = reader.Number<uint64_t>("gguf.tensor_count");
  if (!num_tensors.ok()) return num_tensors.status();
  const auto num_metadata = reader.Number<uint64_t>("gguf.metadata_kv_count");
  if (!num_metadata.ok()) return num_metadata.status();
  for (const absl::Status& status :
       {CheckCount("gguf.tensor_count", *num_tensors, kMaxTensors),
        CheckCount("gguf.metadata_kv_count", *num_metadata, kMaxMetadata)}) {
    if (!status.ok()) return status;
  }

  for (uint64_t i = 0; i < *num_metadata; ++i) {
    const absl::StatusOr<std::string_view> key =
        ReadKey(reader, absl::StrCat("metadata[", i, "].key"));
    if (!key.ok()) return key.status();
    const absl::StatusOr<GgufValue> value = ReadValue(reader, absl::CHexEscape(ToAbsl(*key)));
    if (!value.ok()) return value.status();
    if (!result.metadata_.emplace(*key, *value).second) {
      return Malformed(absl::CHexEscape(ToAbsl(*key)), "keys must be unique", "a second one");
    }
  }
  const absl::StatusOr<uint64_t> alignment = ReadAlignment(result);
  if (!alignment.ok()) return alignment.status();

  std::vector<TensorHeader> headers;
  absl::flat_hash_set<std::string_view> names;
  for (uint64_t i = 0; i < *num_tensors; ++i) {
    absl::StatusOr<TensorHeader> header = ReadTensorHeader(reader, i);
    if (!header.ok()) return header.status();
    if (!names.insert(header->tensor.name).second) {
      return Malformed(absl::StrCat("tensors[", i, "].name"), "names must be unique",
                       Quoted(header->tensor.name));
    }
    headers.push_back(*std::move(header));
  }
  const CheckedU64 data_start = CheckedU64(reader.position()).RoundUp(*alignment);
  if (const absl::Status placed = PlaceTensors(file, data_start, *alignment, headers);
      !placed.ok()) {
    return placed;
  }
  result.tensors_.reserve(headers.size());
  for (TensorHeader& header : headers) result.tensors_.push_back(std::move(header.tensor));
  return result;
}

}  // namespace pregate
