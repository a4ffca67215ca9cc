#include "server/chat_template/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/chat_template/unicode_text.h"

namespace pregate {

const Value* Mapping::Find(const Value& key) const {
  for (const auto& [found, value] : entries) {
    if (Equal(found, key)) return &value;
  }
  return nullptr;
}

const Value* Mapping::Find(absl::string_view key) const {
  for (const auto& [found, value] : entries) {
    if (found.text() != nullptr && found.text()->bytes() == key) return &value;
  }
  return nullptr;
}

void Mapping::Set(Value key, Value value) {
  for (auto& [found, old] : entries) {
    if (Equal(found, key)) {
      old = std::move(value);
      return;
    }
  }
  entries.emplace_back(std::move(key), std::move(value));
}

Value::Value(Sequence sequence) {
  for (const Value& item : sequence.items) {
    sequence.depth = std::max(sequence.depth, item.depth() + 1);
    sequence.weight += item.weight();
  }
  data_ = std::make_shared<const Sequence>(std::move(sequence));
}

Value::Value(Mapping mapping) {
  for (const auto& [key, value] : mapping.entries) {
    mapping.depth = std::max({mapping.depth, key.depth() + 1, value.depth() + 1});
    mapping.weight += key.weight() + value.weight();
  }
  data_ = std::make_shared<const Mapping>(std::move(mapping));
}

Namespace* Value::space() const { return Pointee<NamespacePtr>(); }
LoopState* Value::loop() const { return Pointee<LoopPtr>(); }

std::optional<int64_t> Value::integer() const {
  if (const int64_t* number = As<int64_t>()) return *number;
  if (const bool* truth = As<bool>()) return *truth ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (const double* number = As<double>()) return *number;
  if (const std::optional<int64_t> whole = integer()) return static_cast<double>(*whole);
  return std::nullopt;
}

bool Value::Truthy() const {
  if (is_undefined() || is_none()) return false;
  if (const std::optional<double> value = number()) return *value != 0;
  if (text() != nullptr) return !text()->bytes().empty();
  if (sequence() != nullptr) return !sequence()->items.empty();
  if (mapping() != nullptr) return !mapping()->entries.empty();
  return true;
}

int Value::depth() const {
  if (sequence() != nullptr) return sequence()->depth;
  if (mapping() != nullptr) return mapping()->depth;
  if (callable() != nullptr && callable()->self != nullptr) return callable()->self->depth() + 1;
  return 0;
}

int64_t Value::weight() const {
  if (text() != nullptr) return kValueWeight + static_cast<int64_t>(text()->bytes().size());
  if (sequence() != nullptr) return sequence()->weight;
  if (mapping() != nullptr) return mapping()->weight;
  if (callable() != nullptr && callable()->self != nullptr) return callable()->self->weight();
  int64_t weight = kValueWeight;
  if (space() != nullptr) {
    for (const auto& [key, value] : space()->attributes.entries) weight += value.weight();
  }
  return weight;
}

bool Value::Storable() const {
  if (callable() != nullptr && callable()->self != nullptr) return callable()->self->Storable();
  return space() == nullptr && loop() == nullptr;
}

bool Value::HasClientBytes() const {
  if (text() != nullptr) return text()->has_client_bytes();
  if (sequence() != nullptr) {
    return std::any_of(sequence()->items.begin(), sequence()->items.end(),
                       [](const Value& item) { return item.HasClientBytes(); });
  }
  const Mapping* entries = mapping();
  if (space() != nullptr) entries = &space()->attributes;
  if (entries == nullptr) return false;
  return std::any_of(entries->entries.begin(), entries->entries.end(), [](const auto& entry) {
    return entry.first.HasClientBytes() || entry.second.HasClientBytes();
  });
}

absl::string_view Value::TypeName() const {
  if (is_undefined()) return "undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_float()) return "float";
  if (is_number()) return "int";
  if (text() != nullptr) return "str";
  if (sequence() != nullptr) return sequence()->is_tuple ? "tuple" : "list";
  if (mapping() != nullptr) return "dict";
  if (space() != nullptr) return "namespace";
  if (loop() != nullptr) return "loop";
  return "function";
}

TaggedText Value::ToText() const {
  if (text() != nullptr) return *text();
  if (is_undefined()) return TaggedText();
  return TaggedText(Repr(), HasClientBytes());
}

namespace {

std::string SequenceRepr(const Sequence& sequence) {
  std::string repr = sequence.is_tuple ? "(" : "[";
  for (size_t i = 0; i < sequence.items.size(); ++i) {
    absl::StrAppend(&repr, i == 0 ? "" : ", ", sequence.items[i].Repr());
  }
  if (!sequence.is_tuple) return repr + "]";
  return repr + (sequence.items.size() == 1 ? ",)" : ")");
}

std::string MappingRepr(const Mapping& mapping) {
  std::string repr = "{";
  for (size_t i = 0; i < mapping.entries.size(); ++i) {
    const auto& [key, value] = mapping.entries[i];
    absl::StrAppend(&repr, i == 0 ? "" : ", ", key.Repr(), ": ", value.Repr());
  }
  return repr + "}";
}

template <typename T>
int ThreeWay(const T& a, const T& b) {
  return a < b ? -1 : (b < a ? 1 : 0);
}

}  // namespace

std::string Value::Repr() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "None";
  if (const bool* truth = As<bool>()) return *truth ? "True" : "False";
  if (const int64_t* number = As<int64_t>()) return absl::StrCat(*number);
  if (const double* number = As<double>()) return FloatRepr(*number);
  if (text() != nullptr) return StringRepr(text()->bytes());
  if (sequence() != nullptr) return SequenceRepr(*sequence());
  if (mapping() != nullptr) return MappingRepr(*mapping());
  if (space() != nullptr) return absl::StrCat("<Namespace ", MappingRepr(space()->attributes), ">");
  return absl::StrCat("<", TypeName(), ">");
}

bool Equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return *a.number() == *b.number();
    return *a.integer() == *b.integer();
  }
  if (a.text() != nullptr && b.text() != nullptr) return a.text()->bytes() == b.text()->bytes();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.sequence() != nullptr && b.sequence() != nullptr) {
    const Sequence& x = *a.sequence();
    const Sequence& y = *b.sequence();
    return x.is_tuple == y.is_tuple &&
           std::equal(x.items.begin(), x.items.end(), y.items.begin(), y.items.end(), Equal);
  }
  if (a.mapping() != nullptr && b.mapping() != nullptr) {
    const Mapping& x = *a.mapping();
    if (x.entries.size() != b.mapping()->entries.size()) return false;
    return std::all_of(x.entries.begin(), x.entries.end(), [&](const auto& entry) {
      const Value* other = b.mapping()->Find(entry.first);
      return other != nullptr && Equal(entry.second, *other);
    });
  }
  if (a.space() != nullptr) return a.space() == b.space();
  if (a.loop() != nullptr) return a.loop() == b.loop();
  return a.callable() != nullptr && a.callable() == b.callable();
}

std::optional<int> Compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return ThreeWay(*a.number(), *b.number());
    return ThreeWay(*a.integer(), *b.integer());
  }
  // The order of UTF-8 bytes is the order of code points.
  if (a.text() != nullptr && b.text() != nullptr) {
    return ThreeWay(a.text()->bytes(), b.text()->bytes());
  }
  if (a.sequence() == nullptr || b.sequence() == nullptr) return std::nullopt;
  const Sequence& x = *a.sequence();
  const Sequence& y = *b.sequence();
  if (x.is_tuple != y.is_tuple) return std::nullopt;
  const size_t common = std::min(x.items.size(), y.items.size());
  for (size_t i = 0; i < common; ++i) {
    if (!Equal(x.items[i], y.items[i])) return Compare(x.items[i], y.items[i]);
  }
  return ThreeWay(x.items.size(), y.items.size());
}

std::string FloatRepr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char buffer[64];
  const double magnitude = std::abs(number);
  const bool fixed = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const std::to_chars_result end =
      std::to_chars(buffer, buffer + sizeof(buffer), number,
                    fixed ? std::chars_format::fixed : std::chars_format::scientific);
  std::string repr(buffer, end.ptr);
  if (fixed && repr.find('.') == std::string::npos) repr += ".0";
  return repr;
}

std::string StringRepr(absl::string_view text) {
  const bool double_quotes =
      text.find('\'') != text.npos && text.find('"') == absl::string_view::npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string repr(1, quote);
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = DecodeCodePoint(text, at);
    const absl::string_view bytes = text.substr(at, point.bytes);
    at += point.bytes;
    if (point.value == static_cast<uint32_t>(quote) || point.value == '\\') {
      absl::StrAppend(&repr, "\\", bytes);
    } else if (point.value == '\n') {
      repr += "\\n";
    } else if (point.value == '\r') {
      repr += "\\r";
    } else if (point.value == '\t') {
      repr += "\\t";
    } else if (IsPrintable(point.value)) {
      absl::StrAppend(&repr, bytes);
    } else if (point.value <= 0xFF) {
      absl::StrAppendFormat(&repr, "\\x%02x", point.value);
    } else if (point.value <= 0xFFFF) {
      absl::StrAppendFormat(&repr, "\\u%04x", point.value);
    } else {
      absl::StrAppendFormat(&repr, "\\U%08x", point.value);
    }
  }
  return repr + quote;
}

}  // namespace pregate
