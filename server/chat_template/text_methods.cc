// Methods of strings.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/chat_template/builtins.h"
#include "server/chat_template/evaluation.h"
#include "server/chat_template/text_operations.h"
#include "server/chat_template/unicode_text.h"

namespace pregate {
namespace {

template <bool kLeft, bool kRight>
Value Strip(Evaluation* e, const Value& self, const Arguments& arguments) {
  return StripText(e, *self.text(), arguments.Find(0, "chars"), kLeft, kRight);
}

template <std::string (*kRewrite)(absl::string_view)>
Value Rewrite(Evaluation* e, const Value& self, const Arguments&) {
  return RewriteText(e, *self.text(), kRewrite);
}

Value ToList(Evaluation* e, std::vector<TaggedText> parts) {
  std::vector<Value> items;
  for (TaggedText& part : parts) items.push_back(e->MakeText(std::move(part)));
  return e->MakeSequence(std::move(items));
}

template <bool kFromRight>
Value Split(Evaluation* e, const Value& self, const Arguments& arguments) {
  const Value* separator = arguments.Find(0, "sep");
  const int64_t limit = e->IntegerArgument(arguments, 1, "maxsplit", -1);
  if (separator != nullptr && !separator->is_none()) {
    const std::string text = e->TextArgument(arguments, 0, "sep", "").bytes();
    if (!e->ok()) return Value();
    return ToList(e, SplitText(e, *self.text(), text, limit, kFromRight));
  }
  if (kFromRight && limit >= 0) return e->Fail("rsplit needs a separator");
  return ToList(e, SplitWords(e, *self.text(), limit));
}

Value SplitLinesMethod(Evaluation* e, const Value& self, const Arguments& arguments) {
  return ToList(e, SplitLines(e, *self.text(), e->BoolArgument(arguments, 0, "keepends", false)));
}

template <bool kAtEnd>
Value Affix(Evaluation* e, const Value& self, const Arguments& arguments) {
  const Value* affix = arguments.Find(0, "");
  if (affix == nullptr) return e->Fail("an argument is missing");
  const bool is_tuple = affix->sequence() != nullptr && affix->sequence()->is_tuple;
  const std::vector<Value> choices =
      is_tuple ? affix->sequence()->items : std::vector<Value>{*affix};
  const std::string& text = self.text()->bytes();
  for (const Value& choice : choices) {
    if (choice.text() == nullptr) return e->Fail("startswith and endswith need strings");
    const std::string& wanted = choice.text()->bytes();
    if (kAtEnd ? absl::EndsWith(text, wanted) : absl::StartsWith(text, wanted)) return Value(true);
  }
  return Value(false);
}

template <bool kAtEnd>
Value RemoveAffix(Evaluation* e, const Value& self, const Arguments& arguments) {
  const TaggedText& text = *self.text();
  const std::string affix = e->TextArgument(arguments, 0, "", "").bytes();
  const size_t size = text.bytes().size();
  if (kAtEnd && absl::EndsWith(text.bytes(), affix)) {
    return e->MakeText(text.Slice(0, size - affix.size()));
  }
  if (!kAtEnd && absl::StartsWith(text.bytes(), affix)) {
    return e->MakeText(text.Slice(affix.size(), size));
  }
  return self;
}

Value Replace(Evaluation* e, const Value& self, const Arguments& arguments) {
  const TaggedText old_text = e->TextArgument(arguments, 0, "", "");
  const TaggedText new_text = e->TextArgument(arguments, 1, "", "");
  const int64_t count = e->IntegerArgument(arguments, 2, "count", -1);
  return ReplaceText(e, *self.text(), old_text, new_text, count);
}

Value Count(Evaluation* e, const Value& self, const Arguments& arguments) {
  const std::string wanted = e->TextArgument(arguments, 0, "", "").bytes();
  const std::string& text = self.text()->bytes();
  if (wanted.empty()) return Value(static_cast<int64_t>(CountCodePoints(text) + 1));
  int64_t count = 0;
  for (size_t at = FindText(text, wanted); at != text.npos && e->Spend(1);
       at = FindText(text, wanted, at + wanted.size())) {
    ++count;
  }
  e->SpendBytes(text.size());
  return Value(count);
}

template <bool kFromRight>
Value Find(Evaluation* e, const Value& self, const Arguments& arguments) {
  const std::string wanted = e->TextArgument(arguments, 0, "", "").bytes();
  const std::string& text = self.text()->bytes();
  e->SpendBytes(text.size());
  const size_t at = kFromRight ? FindLastText(text, wanted) : FindText(text, wanted);
  if (at == text.npos) return Value(int64_t{-1});
  return Value(static_cast<int64_t>(CountCodePoints(absl::string_view(text).substr(0, at))));
}

Value JoinMethod(Evaluation* e, const Value& self, const Arguments& arguments) {
  const Value* list = arguments.Find(0, "");
  if (list == nullptr) return e->Fail("an argument is missing");
  TaggedText text;
  bool first = true;
  for (const Value& item : e->Items(*list)) {
    if (item.text() == nullptr) return e->Fail("join needs strings");
    if (!first) text.Append(*self.text());
    first = false;
    text.Append(*item.text());
    if (!e->SpendBytes(kBytesPerStep + self.text()->bytes().size())) return Value();
  }
  return e->MakeText(std::move(text));
}

// "{} {0} {name} {{" with plain fields only: no attributes, no format specifications.
Value Format(Evaluation* e, const Value& self, const Arguments& arguments) {
  const TaggedText& format = *self.text();
  const std::string& bytes = format.bytes();
  TaggedText text;
  size_t next = 0;
  for (size_t at = 0; at < bytes.size() && e->Spend(1);) {
    const size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
    text.Append(format.Slice(at, brace));
    if (brace == bytes.size()) break;
    if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
      text.Append(format.Slice(brace, brace + 1));
      at = brace + 2;
      continue;
    }
    const size_t end = bytes.find('}', brace);
    if (bytes[brace] == '}' || end == bytes.npos) return e->Fail("a single brace in a format");
    const std::string field = bytes.substr(brace + 1, end - brace - 1);
    at = end + 1;
    uint32_t position = 0;
    const Value* value = nullptr;
    if (field.empty()) {
      value = next < arguments.positional.size() ? &arguments.positional[next] : nullptr;
      ++next;
    } else if (absl::SimpleAtoi(field, &position)) {
      value = position < arguments.positional.size() ? &arguments.positional[position] : nullptr;
    } else {
      value = arguments.Find(arguments.positional.size(), field);
    }
    if (value == nullptr) return e->Fail("a format's field has no value");
    text.Append(e->ToText(*value));
  }
  return e->MakeText(std::move(text));
}

// isdigit, isalpha, isspace: not empty, and all characters are.
template <bool (*kIs)(uint32_t)>
Value AllAre(Evaluation* e, const Value& self, const Arguments&) {
  const std::string& text = self.text()->bytes();
  e->SpendBytes(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = DecodeCodePoint(text, at);
    if (!kIs(point.value)) return Value(false);
    at += point.bytes;
  }
  return Value(!text.empty());
}

struct NamedMethod {
  absl::string_view name;
  Method method;
};
constexpr NamedMethod kMethods[] = {
    {"strip", Strip<true, true>},
    {"lstrip", Strip<true, false>},
    {"rstrip", Strip<false, true>},
    {"split", Split<false>},
    {"rsplit", Split<true>},
    {"splitlines", SplitLinesMethod},
    {"startswith", Affix<false>},
    {"endswith", Affix<true>},
    {"removeprefix", RemoveAffix<false>},
    {"removesuffix", RemoveAffix<true>},
    {"upper", Rewrite<ToUpper>},
    {"lower", Rewrite<ToLower>},
    {"title", Rewrite<ToTitle>},
    {"capitalize", Rewrite<Capitalize>},
    {"replace", Replace},
    {"count", Count},
    {"find", Find<false>},
    {"rfind", Find<true>},
    {"join", JoinMethod},
    {"format", Format},
    {"isdigit", AllAre<IsDigit>},
    {"isalpha", AllAre<IsAlpha>},
    {"isspace", AllAre<IsSpace>},
};

}  // namespace

Method FindTextMethod(absl::string_view name) {
  for (const NamedMethod& entry : kMethods) {
    if (entry.name == name) return entry.method;
  }
  return nullptr;
}

}  // namespace pregate
