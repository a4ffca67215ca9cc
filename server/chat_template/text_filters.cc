// Filters over strings and single values.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "server/chat_template/builtins.h"
#include "server/chat_template/evaluation.h"
#include "server/chat_template/text_operations.h"
#include "server/chat_template/unicode_text.h"

namespace pregate {
namespace {

Value Trim(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value* chars = arguments.Find(0, "chars");
  return StripText(e, e->ToText(value), chars, true, true);
}

// A filter that rewrites the whole text.
template <std::string (*kRewrite)(absl::string_view)>
Value Rewrite(Evaluation* e, const Value& value, const Arguments&) {
  return RewriteText(e, e->ToText(value), kRewrite);
}

// Jinja's own `title`: words begin after spaces, hyphens and opening brackets only.
std::string TitleWords(absl::string_view text) {
  std::string title;
  bool starts = true;
  size_t word = 0;
  for (size_t at = 0; at <= text.size();) {
    const CodePoint point = at < text.size() ? DecodeCodePoint(text, at) : CodePoint{' ', 1};
    const bool separates =
        IsSpace(point.value) ||
        (point.value < 0x80 && absl::string_view("-({[<").find(static_cast<char>(point.value)) !=
                                   absl::string_view::npos);
    if (separates && !starts) {
      const size_t first = DecodeCodePoint(text, word).bytes;
      title += ToUpper(text.substr(word, first));
      title += ToLower(text.substr(word + first, at - word - first));
    }
    if (at == text.size()) break;
    if (separates) absl::StrAppend(&title, text.substr(at, point.bytes));
    if (!separates && starts) word = at;
    starts = separates;
    at += point.bytes;
  }
  return title;
}

std::string EscapeHtml(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&#34;"}});
}

Value Same(Evaluation* e, const Value& value, const Arguments&) {
  return e->MakeText(e->ToText(value));
}

Value Replace(Evaluation* e, const Value& value, const Arguments& arguments) {
  const TaggedText old_text = e->TextArgument(arguments, 0, "old", "");
  const TaggedText new_text = e->TextArgument(arguments, 1, "new", "");
  const Value* count = arguments.Find(2, "count");
  const int64_t limit = count == nullptr || count->is_none() ? -1 : count->integer().value_or(-1);
  return ReplaceText(e, e->ToText(value), old_text, new_text, limit);
}

Value Default(Evaluation* e, const Value& value, const Arguments& arguments) {
  const bool falsy_too = e->BoolArgument(arguments, 1, "boolean", false);
  if (!value.is_undefined() && !(falsy_too && !value.Truthy())) return value;
  const Value* other = arguments.Find(0, "default_value");
  return other == nullptr ? Value(TaggedText()) : *other;
}

Value ToJson(Evaluation* e, const Value& value, const Arguments& arguments) {
  JsonStyle style;
  style.ensure_ascii = e->BoolArgument(arguments, 0, "ensure_ascii", false);
  style.sort_keys = e->BoolArgument(arguments, 3, "sort_keys", false);
  const Value* indent = arguments.Find(1, "indent");
  if (indent != nullptr && !indent->is_none()) {
    style.item_separator = std::string(1, ',');
    if (indent->text() != nullptr) {
      style.indent = indent->text()->bytes();
      if (style.indent->size() > kMaxIndent) return e->Fail("indent is too wide");
    } else {
      const int64_t width = indent->integer().value_or(0);
      if (width > int64_t{kMaxIndent}) return e->Fail("indent is too wide");
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  const Value* separators = arguments.Find(2, "separators");
  if (separators != nullptr && !separators->is_none()) {
    const std::vector<Value> both = e->Items(*separators);
    if (both.size() != 2 || both[0].text() == nullptr || both[1].text() == nullptr) {
      return e->Fail("separators must be two strings");
    }
    style.item_separator = both[0].text()->bytes();
    style.key_separator = both[1].text()->bytes();
    if (style.item_separator.size() + style.key_separator.size() > kMaxIndent) {
      return e->Fail("separators are too long");
    }
  }
  std::string json = WriteJson(e, value, style);
  const bool from_client = value.HasClientBytes() ||
                           (indent != nullptr && indent->HasClientBytes()) ||
                           (separators != nullptr && separators->HasClientBytes());
  return e->MakeText(std::move(json), from_client);
}

// Below the range of int64_t.
constexpr double kMaxWhole = 9.2e18;

Value Int(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value* other = arguments.Find(0, "default");
  const Value fallback = other == nullptr ? Value(int64_t{0}) : *other;
  if (value.is_undefined()) return e->Attribute(value, "int");  // fails
  if (const std::optional<int64_t> whole = value.integer()) return Value(*whole);
  double number = 0;
  if (const TaggedText* text = value.text()) {
    const ByteRange range = StripRange(text->bytes(), nullptr, true, true);
    const absl::string_view digits =
        absl::string_view(text->bytes()).substr(range.begin, range.end - range.begin);
    int64_t whole = 0;
    if (absl::SimpleAtoi(digits, &whole)) return Value(whole);
    if (!absl::SimpleAtod(digits, &number)) return fallback;
  } else if (value.is_float()) {
    number = *value.number();
  } else {
    return fallback;
  }
  if (!(std::abs(number) < kMaxWhole)) return fallback;
  return Value(static_cast<int64_t>(number));
}

Value Float(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value* other = arguments.Find(0, "default");
  if (value.is_undefined()) return e->Attribute(value, "float");  // fails
  if (const std::optional<double> number = value.number()) return Value(*number);
  double number = 0;
  if (value.text() != nullptr && absl::SimpleAtod(value.text()->bytes(), &number)) {
    return Value(number);
  }
  return other == nullptr ? Value(0.0) : *other;
}

Value Abs(Evaluation* e, const Value& value, const Arguments&) {
  if (value.is_float()) return Value(std::abs(*value.number()));
  const std::optional<int64_t> number = value.integer();
  if (!number.has_value()) return e->Fail("abs needs a number");
  return *number < 0 ? e->Binary("-", Value(int64_t{0}), Value(*number)) : Value(*number);
}

// Digits beyond what a double has are zeros in both directions.
constexpr int64_t kMaxPrecision = 15;

// Python rounds the decimal text of the number, half to even, so that 2.675 is seen as the
// 2.67499999... that it is.
double RoundHalfEven(double number, int64_t digits) {
  if (digits < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(number / scale) * scale;
  }
  double rounded = number;
  if (!absl::SimpleAtod(absl::StrFormat("%.*f", static_cast<int>(digits), number), &rounded))
    return number;
  return rounded;
}

Value Round(Evaluation* e, const Value& value, const Arguments& arguments) {
  const std::optional<double> number = value.number();
  if (!number.has_value()) return e->Fail("round needs a number");
  const int64_t precision = e->IntegerArgument(arguments, 0, "precision", 0);
  const std::string method = e->TextArgument(arguments, 1, "method", "common").bytes();
  if (precision < -kMaxPrecision || precision > kMaxPrecision) {
    return e->Fail("precision is out of range");
  }
  if (method == "common") {
    // An int stays an int.
    if (value.integer().has_value() && precision >= 0) return Value(*value.integer());
    const double rounded = RoundHalfEven(*number, precision);
    if (!value.integer().has_value()) return Value(rounded);
    if (!(std::abs(rounded) < kMaxWhole)) return e->Fail("a number is too large");
    return Value(static_cast<int64_t>(rounded));
  }
  if (method != "ceil" && method != "floor") return e->Fail("method must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = *number * scale;
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value Indent(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value* width = arguments.Find(0, "width");
  TaggedText prefix;
  if (width != nullptr && width->text() != nullptr) {
    prefix = *width->text();
  } else {
    const int64_t spaces = e->IntegerArgument(arguments, 0, "width", 4);
    if (spaces > int64_t{kMaxIndent}) return e->Fail("indent is too wide");
    prefix = TaggedText(std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' '));
  }
  const bool first = e->BoolArgument(arguments, 1, "first", false);
  const bool blank = e->BoolArgument(arguments, 2, "blank", false);
  TaggedText text = e->ToText(value);
  text.Append("\n");  // so that a last newline starts a line of its own
  TaggedText indented;
  const std::vector<TaggedText> lines = SplitLines(e, text, false);
  for (size_t i = 0; i < lines.size() && e->ok(); ++i) {
    if (i > 0) indented.Append("\n");
    const bool wanted = i == 0 ? first : (blank || !lines[i].bytes().empty());
    if (wanted) indented.Append(prefix);
    indented.Append(lines[i]);
    if (!e->SpendBytes(prefix.bytes().size() + kBytesPerStep)) break;
  }
  return e->MakeText(std::move(indented));
}

Value Format(Evaluation* e, const Value& value, const Arguments& arguments) {
  return FormatPercent(e, e->ToText(value), arguments.positional);
}

Value WordCount(Evaluation* e, const Value& value, const Arguments&) {
  return Value(static_cast<int64_t>(SplitWords(e, e->ToText(value), -1).size()));
}

struct NamedFilter {
  absl::string_view name;
  Filter filter;
};
constexpr NamedFilter kFilters[] = {
    {"trim", Trim},
    {"upper", Rewrite<ToUpper>},
    {"lower", Rewrite<ToLower>},
    {"capitalize", Rewrite<Capitalize>},
    {"title", Rewrite<TitleWords>},
    {"escape", Rewrite<EscapeHtml>},
    {"e", Rewrite<EscapeHtml>},
    {"forceescape", Rewrite<EscapeHtml>},
    {"string", Same},
    {"safe", Same},
    {"replace", Replace},
    {"default", Default},
    {"d", Default},
    {"tojson", ToJson},
    {"int", Int},
    {"float", Float},
    {"abs", Abs},
    {"round", Round},
    {"indent", Indent},
    {"format", Format},
    {"wordcount", WordCount},
};

}  // namespace

Filter FindTextFilter(absl::string_view name) {
  for (const NamedFilter& entry : kFilters) {
    if (entry.name == name) return entry.filter;
  }
  return nullptr;
}

Filter FindFilter(absl::string_view name) {
  const Filter filter = FindTextFilter(name);
  return filter != nullptr ? filter : FindSequenceFilter(name);
}

}  // namespace pregate
