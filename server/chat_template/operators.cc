// Arithmetic, and the arguments of built-ins.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/chat_template/evaluation.h"
#include "server/chat_template/unicode_text.h"

namespace pregate {

const Value* Arguments::Find(size_t position, absl::string_view name) const {
  if (position < positional.size()) return &positional[position];
  for (const auto& [found, value] : named) {
    if (!name.empty() && found == name) return &value;
  }
  return nullptr;
}

int64_t Evaluation::IntegerArgument(const Arguments& arguments, size_t position,
                                    absl::string_view name, int64_t default_value) {
  const Value* value = arguments.Find(position, name);
  if (value == nullptr) return default_value;
  const std::optional<int64_t> number = value->integer();
  if (!number.has_value()) {
    Fail(absl::StrCat("argument ", name, " must be a whole number, not ", value->TypeName()));
  }
  return number.value_or(default_value);
}

bool Evaluation::BoolArgument(const Arguments& arguments, size_t position, absl::string_view name,
                              bool default_value) {
  const Value* value = arguments.Find(position, name);
  return value == nullptr ? default_value : value->Truthy();
}

TaggedText Evaluation::TextArgument(const Arguments& arguments, size_t position,
                                    absl::string_view name, absl::string_view default_value) {
  const Value* value = arguments.Find(position, name);
  if (value == nullptr) return TaggedText(std::string(default_value));
  if (value->text() == nullptr) {
    Fail(absl::StrCat("argument ", name, " must be a string, not ", value->TypeName()));
    return TaggedText();
  }
  return *value->text();
}

Value Evaluation::IntegerArithmetic(absl::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    if (b < 0) return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
    result = 1;
    for (int64_t i = 0; i < b && !overflow && Spend(1); ++i) {
      overflow = __builtin_mul_overflow(result, a, &result);
    }
  } else {  // "//" and "%" round towards minus infinity
    if (b == 0) return Fail("division by zero");
    if (b == -1) {  // the one division that can overflow
      overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
      if (op == "%") return Value(int64_t{0});
    } else {
      const int64_t remainder = a % b;
      const bool below = remainder != 0 && (remainder < 0) != (b < 0);
      result = op == "%" ? remainder + (below ? b : 0) : a / b - (below ? 1 : 0);
    }
  }
  if (overflow) return Fail("a number is too large");
  return Value(result);
}

Value Evaluation::FloatArithmetic(absl::string_view op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") return Value(std::pow(a, b));
  if (b == 0) return Fail("division by zero");
  if (op == "/") return Value(a / b);
  if (op == "//") return Value(std::floor(a / b));
  const double remainder = std::fmod(a, b);
  return Value(remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder);
}

Value Evaluation::Repeat(const Value& value, int64_t times) {
  times = times < 0 ? 0 : times;
  if (const Sequence* sequence = value.sequence()) {
    const int64_t size = static_cast<int64_t>(sequence->items.size());
    times = std::min(times, kMaxRenderSteps + 1);
    if (!Spend(size * times)) return Value();
    std::vector<Value> items;
    for (int64_t i = 0; i < times; ++i) {
      items.insert(items.end(), sequence->items.begin(), sequence->items.end());
    }
    return MakeSequence(std::move(items), sequence->is_tuple);
  }
  const TaggedText& text = *value.text();
  const int64_t size = static_cast<int64_t>(text.bytes().size());
  TaggedText repeated;
  for (int64_t i = 0; size > 0 && i < times && Spend(1); ++i) {
    repeated.Append(text);
    if (repeated.bytes().size() > kMaxRenderedBytes) break;  // more than a text may have
  }
  return MakeText(std::move(repeated));
}

Value Evaluation::Arithmetic(absl::string_view op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (!a.is_float() && !b.is_float() && op != "/") {
      return IntegerArithmetic(op, *a.integer(), *b.integer());
    }
    return FloatArithmetic(op, *a.number(), *b.number());
  }
  const auto repeatable = [](const Value& value) {
    return value.text() != nullptr || value.sequence() != nullptr;
  };
  if (op == "*" && repeatable(a) && b.integer().has_value()) return Repeat(a, *b.integer());
  if (op == "*" && repeatable(b) && a.integer().has_value()) return Repeat(b, *a.integer());
  if (op == "+" && a.text() != nullptr && b.text() != nullptr) {
    TaggedText text = *a.text();
    text.Append(*b.text());
    return MakeText(std::move(text));
  }
  if (op == "+" && a.sequence() != nullptr && b.sequence() != nullptr &&
      a.sequence()->is_tuple == b.sequence()->is_tuple) {
    std::vector<Value> items = a.sequence()->items;
    items.insert(items.end(), b.sequence()->items.begin(), b.sequence()->items.end());
    return MakeSequence(std::move(items), a.sequence()->is_tuple);
  }
  if (op == "%" && a.text() != nullptr) {
    const bool several = b.sequence() != nullptr && b.sequence()->is_tuple;
    return FormatPercent(this, *a.text(), several ? b.sequence()->items : std::vector<Value>{b});
  }
  return Fail(absl::StrCat("'", op, "' cannot join ", a.TypeName(), " and ", b.TypeName()));
}

Value Evaluation::Binary(absl::string_view op, const Value& a, const Value& b) {
  for (const Value* operand : {&a, &b}) {
    if (operand->is_undefined()) return Attribute(*operand, op);  // fails
  }
  return Arithmetic(op, a, b);
}

Value FormatPercent(Evaluation* evaluation, const TaggedText& format,
                    const std::vector<Value>& values) {
  TaggedText text;
  size_t used = 0;
  const std::string& bytes = format.bytes();
  for (size_t at = 0; at < bytes.size() && evaluation->Spend(1);) {
    const size_t percent = std::min(bytes.find('%', at), bytes.size());
    text.Append(format.Slice(at, percent));
    if (percent == bytes.size()) break;
    const char kind = percent + 1 < bytes.size() ? bytes[percent + 1] : '\0';
    at = percent + 2;
    if (kind == '%') {
      text.Append("%");
      continue;
    }
    if (used >= values.size()) return evaluation->Fail("not enough values for a format");
    const Value& value = values[used++];
    if (kind == 's') {
      text.Append(evaluation->ToText(value));
    } else if (kind == 'r') {
      if (!evaluation->SpendWeight(value)) return Value();
      text.Append(TaggedText(value.Repr(), value.HasClientBytes()));
    } else if ((kind == 'd' || kind == 'i') && value.integer().has_value()) {
      text.Append(absl::StrCat(*value.integer()));
    } else {
      return evaluation->Fail("a format other than %s, %r, %d, %i, or a value that does not fit");
    }
  }
  if (used < values.size()) return evaluation->Fail("too many values for a format");
  return evaluation->MakeText(std::move(text));
}

}  // namespace pregate
