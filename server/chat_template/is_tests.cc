// `value is test`.
#include "absl/strings/str_cat.h"
#include "server/chat_template/builtins.h"
#include "server/chat_template/evaluation.h"
#include "server/chat_template/unicode_text.h"

namespace pregate {
namespace {

// The test's one argument; fails if it is absent.
Value Other(Evaluation* e, const Arguments& arguments) {
  const Value* other = arguments.Find(0, "");
  return other == nullptr ? e->Fail("a test lacks its argument") : *other;
}

template <char kFirst, char kSecond>
bool CompareTest(Evaluation* e, const Value& value, const Arguments& arguments) {
  constexpr char kOperator[] = {kFirst, kSecond};
  const Value other = Other(e, arguments);
  return e->ok() &&
         e->CompareWith(absl::string_view(kOperator, kSecond == '\0' ? 1 : 2), value, other);
}

bool IsDefined(Evaluation*, const Value& value, const Arguments&) { return !value.is_undefined(); }
bool IsUndefined(Evaluation*, const Value& value, const Arguments&) { return value.is_undefined(); }
bool IsNone(Evaluation*, const Value& value, const Arguments&) { return value.is_none(); }
bool IsString(Evaluation*, const Value& value, const Arguments&) { return value.text() != nullptr; }
bool IsNumber(Evaluation*, const Value& value, const Arguments&) { return value.is_number(); }
bool IsFloat(Evaluation*, const Value& value, const Arguments&) { return value.is_float(); }
bool IsBoolean(Evaluation*, const Value& value, const Arguments&) { return value.is_bool(); }
bool IsInteger(Evaluation*, const Value& value, const Arguments&) {
  return value.As<int64_t>() != nullptr;
}
bool IsTrue(Evaluation*, const Value& value, const Arguments&) {
  return value.is_bool() && value.Truthy();
}
bool IsFalse(Evaluation*, const Value& value, const Arguments&) {
  return value.is_bool() && !value.Truthy();
}
bool IsMapping(Evaluation*, const Value& value, const Arguments&) {
  return value.mapping() != nullptr;
}
bool IsSequence(Evaluation*, const Value& value, const Arguments&) {
  return value.is_undefined() || value.text() != nullptr || value.sequence() != nullptr ||
         value.mapping() != nullptr;
}
bool IsCallable(Evaluation*, const Value& value, const Arguments&) {
  return value.callable() != nullptr;
}

bool IsIn(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value container = Other(e, arguments);
  return e->ok() && e->Contains(container, value);
}

bool IsSameAs(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value other = Other(e, arguments);
  return value.TypeName() == other.TypeName() && Equal(value, other);
}

// The remainder of a whole number by `divisor`; fails on anything else.
int64_t Remainder(Evaluation* e, const Value& value, const Value& divisor) {
  const Value remainder = e->Binary("%", value, divisor);
  if (!remainder.integer().has_value()) e->Fail("a test needs whole numbers");
  return remainder.integer().value_or(0);
}

bool IsOdd(Evaluation* e, const Value& value, const Arguments&) {
  return Remainder(e, value, Value(int64_t{2})) == 1;
}
bool IsEven(Evaluation* e, const Value& value, const Arguments&) {
  return Remainder(e, value, Value(int64_t{2})) == 0;
}
bool IsDivisibleBy(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value divisor = Other(e, arguments);
  return e->ok() && Remainder(e, value, divisor) == 0;
}

// Python's islower and isupper: some letter has case, and all that have it have this one.
bool IsLower(Evaluation* e, const Value& value, const Arguments&) {
  const std::string text = e->ToText(value).bytes();
  return ToLower(text) == text && ToUpper(text) != text;
}
bool IsUpper(Evaluation* e, const Value& value, const Arguments&) {
  const std::string text = e->ToText(value).bytes();
  return ToUpper(text) == text && ToLower(text) != text;
}

struct NamedTest {
  absl::string_view name;
  Test test;
};
constexpr NamedTest kTests[] = {
    {"defined", IsDefined},
    {"undefined", IsUndefined},
    {"none", IsNone},
    {"string", IsString},
    {"number", IsNumber},
    {"integer", IsInteger},
    {"float", IsFloat},
    {"boolean", IsBoolean},
    {"true", IsTrue},
    {"false", IsFalse},
    {"mapping", IsMapping},
    {"sequence", IsSequence},
    {"iterable", IsSequence},
    {"callable", IsCallable},
    {"in", IsIn},
    {"sameas", IsSameAs},
    {"odd", IsOdd},
    {"even", IsEven},
    {"divisibleby", IsDivisibleBy},
    {"lower", IsLower},
    {"upper", IsUpper},
    {"eq", CompareTest<'=', '='>},
    {"equalto", CompareTest<'=', '='>},
    {"ne", CompareTest<'!', '='>},
    {"lt", CompareTest<'<', '\0'>},
    {"lessthan", CompareTest<'<', '\0'>},
    {"le", CompareTest<'<', '='>},
    {"gt", CompareTest<'>', '\0'>},
    {"greaterthan", CompareTest<'>', '\0'>},
    {"ge", CompareTest<'>', '='>},
};

}  // namespace

Test FindTest(absl::string_view name) {
  for (const NamedTest& entry : kTests) {
    if (entry.name == name) return entry.test;
  }
  return nullptr;
}

}  // namespace pregate
