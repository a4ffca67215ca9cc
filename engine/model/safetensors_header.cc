#include "engine/model/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "engine/model/file_error.h"
#include "engine/model/safetensors.h"

namespace pregate {
namespace {

constexpr size_t kMaxDimensions = 8;

// Receives the events of the JSON parser; returning false ends the parse. The grammar is small
// enough to be spelled out as places: where the next event stands.
class HeaderHandler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderHandler(std::string_view field) : field_(field) {}

  const absl::Status& status() const { return status_; }
  std::vector<SafetensorsEntry>& entries() { return entries_; }

  bool start_object(size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTensorValue:
        place_ = Place::kTensor;
        return true;
      case Place::kMetadataValue:
        place_ = Place::kMetadata;
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool end_object() override {
    if (place_ == Place::kTop) {
      place_ = Place::kEnd;
      return true;
    }
    if (place_ == Place::kTensor && !has_all_members()) {
      return Fail("every tensor must have dtype, shape and data_offsets",
                  Quoted(entries_.back().name));
    }
    place_ = Place::kTop;
    return true;
  }

  bool key(string_t& name) override {
    if (place_ == Place::kTop) return StartMember(name);
    if (place_ == Place::kMetadata) return true;
    if (name == "dtype") return StartTensorMember(Place::kType, seen_type_, name);
    if (name == "shape") return StartTensorMember(Place::kShapeValue, seen_shape_, name);
    if (name == "data_offsets") return StartTensorMember(Place::kOffsetsValue, seen_offsets_, name);
    return Fail("members of a tensor must be dtype, shape and data_offsets", Quoted(name));
  }

  bool start_array(size_t) override {
    if (place_ == Place::kShapeValue) {
      place_ = Place::kShape;
    } else if (place_ == Place::kOffsetsValue) {
      place_ = Place::kOffsets;
    } else {
      return Unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && num_offsets_ != 2) {
      return Fail("data_offsets must be two numbers", absl::StrCat(num_offsets_));
    }
    place_ = Place::kTensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t number) override {
    if (place_ == Place::kShape) {
      if (entries_.back().shape.size() == kMaxDimensions) {
        return Fail(absl::StrCat("shape must have at most ", kMaxDimensions, " dimensions"),
                    "more");
      }
      entries_.back().shape.push_back(number);
      return true;
    }
    if (place_ != Place::kOffsets) return Unexpected("a number");
    if (num_offsets_ == 0) entries_.back().begin = number;
    if (num_offsets_ == 1) entries_.back().end = number;
    ++num_offsets_;
    return num_offsets_ <= 2 || Fail("data_offsets must be two numbers", "more");
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kType) return Unexpected("a string");
    entries_.back().type = text;
    place_ = Place::kTensor;
    return true;
  }

  bool number_integer(number_integer_t number) override {
    return Fail("numbers must be integers in [0, 2^64)", absl::StrCat(number));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return Fail("numbers must be integers in [0, 2^64)", Quoted(text));
  }
  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool binary(binary_t&) override { return Unexpected("binary data"); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail("header must be JSON in UTF-8", absl::StrCat("an error at byte ", position));
  }

 private:
  enum class Place : uint8_t {
    kStart,
    kTop,
    kTensorValue,
    kTensor,
    kType,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kMetadataValue,
    kMetadata,
    kEnd,
  };

  bool has_all_members() const { return seen_type_ && seen_shape_ && seen_offsets_; }

  bool StartMember(const std::string& name) {
    if (!names_.insert(name).second) return Fail("names must be unique", Quoted(name));
    if (name == "__metadata__") {
      place_ = Place::kMetadataValue;
      return true;
    }
    if (entries_.size() == kMaxSafetensorsTensors) {
      return Fail(absl::StrCat("must have at most ", kMaxSafetensorsTensors, " tensors"), "more");
    }
    entries_.push_back({});
    entries_.back().name = name;
    seen_type_ = seen_shape_ = seen_offsets_ = false;
    num_offsets_ = 0;
    place_ = Place::kTensorValue;
    return true;
  }

  bool StartTensorMember(Place place, bool& seen, const std::string& name) {
    if (seen) return Fail("members must be unique", Quoted(name));
    seen = true;
    place_ = place;
    return true;
  }

  bool Unexpected(std::string_view what) {
    return Fail("header must be {name: {dtype, shape, data_offsets}, ...}", what);
  }

  bool Fail(std::string_view rule, std::string_view got) {
    if (status_.ok()) status_ = Malformed(field_, rule, got);
    return false;
  }

  std::string_view field_;
  absl::Status status_;
  Place place_ = Place::kStart;
  std::vector<SafetensorsEntry> entries_;
  absl::flat_hash_set<std::string> names_;
  bool seen_type_ = false;
  bool seen_shape_ = false;
  bool seen_offsets_ = false;
  size_t num_offsets_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(std::string_view json,
                                                                     std::string_view field) {
  HeaderHandler handler(field);
  const bool parsed = nlohmann::json::sax_parse(json.begin(), json.end(), &handler);
  if (!handler.status().ok()) return handler.status();
  if (!parsed) return Malformed(field, "header must be JSON", "something else");
  return std::move(handler.entries());
}

}  // namespace pregate
