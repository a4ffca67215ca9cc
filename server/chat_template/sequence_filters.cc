// Filters over lists and dicts.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/chat_template/builtins.h"
#include "server/chat_template/evaluation.h"
#include "server/chat_template/text_operations.h"
#include "server/chat_template/unicode_text.h"

namespace pregate {
namespace {

Value Length(Evaluation* e, const Value& value, const Arguments&) {
  return Value(e->Length(value).value_or(0));
}

Value List(Evaluation* e, const Value& value, const Arguments&) {
  return e->MakeSequence(e->Items(value));
}

Value First(Evaluation* e, const Value& value, const Arguments&) {
  const std::vector<Value> items = e->Items(value);
  return items.empty() ? Value(Undefined{"first item of an empty list"}) : items.front();
}

Value Last(Evaluation* e, const Value& value, const Arguments&) {
  const std::vector<Value> items = e->Items(value);
  return items.empty() ? Value(Undefined{"last item of an empty list"}) : items.back();
}

Value Join(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value* separator = arguments.Find(0, "d");
  const Value* path = arguments.Find(1, "attribute");
  TaggedText text;
  bool first = true;
  for (const Value& item : e->Items(value)) {
    if (!first && separator != nullptr) text.Append(e->ToText(*separator));
    first = false;
    text.Append(e->ToText(path == nullptr ? item : e->AttributePath(item, *path)));
    if (!e->Spend(1)) return Value();
  }
  return e->MakeText(std::move(text));
}

Value PairList(Evaluation* e, const Mapping& mapping) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : mapping.entries) {
    pairs.push_back(e->MakeSequence({key, value}, true));
  }
  return e->MakeSequence(std::move(pairs));
}

Value ItemsFilter(Evaluation* e, const Value& value, const Arguments&) {
  if (value.is_undefined()) return e->MakeSequence({});
  if (value.mapping() == nullptr) return e->Fail("items needs a dict");
  return PairList(e, *value.mapping());
}

// The arguments behind the first `count` by position.
Arguments Behind(const Arguments& arguments, size_t count) {
  Arguments rest;
  rest.named = arguments.named;
  for (size_t i = count; i < arguments.positional.size(); ++i) {
    rest.positional.push_back(arguments.positional[i]);
  }
  return rest;
}

Value Map(Evaluation* e, const Value& value, const Arguments& arguments) {
  std::vector<Value> mapped;
  const Value* path = arguments.Find(arguments.positional.size(), "attribute");
  const Value* missing = arguments.Find(arguments.positional.size(), "default");
  Filter filter = nullptr;
  Arguments rest;
  if (path == nullptr) {
    const std::string name = e->TextArgument(arguments, 0, "", "").bytes();
    filter = FindFilter(name);
    if (filter == nullptr) return e->Fail(absl::StrCat("unknown filter ", name));
    rest = Behind(arguments, 1);
  }
  for (const Value& item : e->Items(value)) {
    Value result = filter != nullptr ? filter(e, item, rest) : e->AttributePath(item, *path);
    if (result.is_undefined() && missing != nullptr) result = *missing;
    mapped.push_back(std::move(result));
    if (!e->Spend(1)) break;
  }
  return e->MakeSequence(std::move(mapped));
}

// select, reject, selectattr, rejectattr.
template <bool kKeep, bool kByAttribute>
Value Select(Evaluation* e, const Value& value, const Arguments& arguments) {
  const size_t skipped = kByAttribute ? 1 : 0;
  if (kByAttribute && arguments.positional.empty()) return e->Fail("an attribute must be named");
  Test test = nullptr;
  if (arguments.positional.size() > skipped) {
    const std::string name = e->TextArgument(arguments, skipped, "", "").bytes();
    test = FindTest(name);
    // Operators are tests too: selectattr("role", "==", "user").
    if (test == nullptr && (name == "==" || name == "!=" || name == "in")) {
      test = FindTest(name == "==" ? "eq" : (name == "!=" ? "ne" : "in"));
    }
    if (test == nullptr) return e->Fail(absl::StrCat("unknown test ", name));
  }
  const Arguments rest = Behind(arguments, skipped + 1);
  std::vector<Value> selected;
  for (const Value& item : e->Items(value)) {
    const Value tested = kByAttribute ? e->AttributePath(item, arguments.positional[0]) : item;
    if ((test == nullptr ? tested.Truthy() : test(e, tested, rest)) == kKeep) {
      selected.push_back(item);
    }
    if (!e->Spend(1)) break;
  }
  return e->MakeSequence(std::move(selected));
}

// What "without regard to case" compares.
Value Folded(const Value& value, bool case_sensitive) {
  if (case_sensitive || value.text() == nullptr) return value;
  return Value::String(ToLower(value.text()->bytes()));
}

Value Unique(Evaluation* e, const Value& value, const Arguments& arguments) {
  const bool case_sensitive = e->BoolArgument(arguments, 0, "case_sensitive", false);
  const Value* path = arguments.Find(1, "attribute");
  std::vector<Value> seen;
  std::vector<Value> unique;
  for (const Value& item : e->Items(value)) {
    const Value key =
        Folded(path == nullptr ? item : e->AttributePath(item, *path), case_sensitive);
    if (!e->Spend(1 + static_cast<int64_t>(seen.size() / 8))) break;
    const bool known = std::any_of(seen.begin(), seen.end(),
                                   [&](const Value& other) { return Equal(other, key); });
    if (known) continue;
    seen.push_back(key);
    unique.push_back(item);
  }
  return e->MakeSequence(std::move(unique));
}

Value Sort(Evaluation* e, const Value& value, const Arguments& arguments) {
  const bool reverse = e->BoolArgument(arguments, 0, "reverse", false);
  const bool case_sensitive = e->BoolArgument(arguments, 1, "case_sensitive", false);
  const Value* path = arguments.Find(2, "attribute");
  return e->MakeSequence(e->Sorted(e->Items(value), path, case_sensitive, reverse));
}

Value DictSort(Evaluation* e, const Value& value, const Arguments& arguments) {
  if (value.mapping() == nullptr) return e->Fail("dictsort needs a dict");
  const bool case_sensitive = e->BoolArgument(arguments, 0, "case_sensitive", false);
  const std::string by = e->TextArgument(arguments, 1, "by", "key").bytes();
  const bool reverse = e->BoolArgument(arguments, 2, "reverse", false);
  if (by != "key" && by != "value") return e->Fail("dictsort goes by key or by value");
  const Value position(int64_t{by == "key" ? 0 : 1});
  const Value pairs = PairList(e, *value.mapping());
  return e->MakeSequence(e->Sorted(e->Items(pairs), &position, case_sensitive, reverse));
}

Value Reverse(Evaluation* e, const Value& value, const Arguments&) {
  if (const TaggedText* text = value.text()) {
    const std::vector<size_t> offsets = CodePointOffsets(text->bytes());
    std::string reversed;
    for (size_t i = offsets.size() - 1; i > 0; --i) {
      reversed.append(text->bytes(), offsets[i - 1], offsets[i] - offsets[i - 1]);
    }
    return e->MakeText(std::move(reversed), text->has_client_bytes());
  }
  std::vector<Value> items = e->Items(value);
  std::reverse(items.begin(), items.end());
  return e->MakeSequence(std::move(items));
}

template <bool kLargest>
Value Extreme(Evaluation* e, const Value& value, const Arguments& arguments) {
  const bool case_sensitive = e->BoolArgument(arguments, 0, "case_sensitive", false);
  const Value* path = arguments.Find(1, "attribute");
  std::vector<Value> sorted = e->Sorted(e->Items(value), path, case_sensitive, kLargest);
  return sorted.empty() ? Value(Undefined{"an empty list"}) : sorted.front();
}

Value Sum(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value* path = arguments.Find(0, "attribute");
  const Value* start = arguments.Find(1, "start");
  Value sum = start == nullptr ? Value(int64_t{0}) : *start;
  for (const Value& item : e->Items(value)) {
    const bool whole = path == nullptr || path->is_none();
    sum = e->Binary("+", sum, whole ? item : e->AttributePath(item, *path));
    if (!e->Spend(1)) break;
  }
  return sum;
}

Value Batch(Evaluation* e, const Value& value, const Arguments& arguments) {
  const int64_t size = e->IntegerArgument(arguments, 0, "linecount", 0);
  const Value* fill = arguments.Find(1, "fill_with");
  if (size < 1 || size > kMaxRangeLength) return e->Fail("batch needs a size");
  std::vector<Value> batches;
  std::vector<Value> batch;
  for (const Value& item : e->Items(value)) {
    batch.push_back(item);
    if (static_cast<int64_t>(batch.size()) < size) continue;
    batches.push_back(e->MakeSequence(std::exchange(batch, {})));
  }
  if (!batch.empty()) {
    if (fill != nullptr && !fill->is_none()) batch.resize(static_cast<size_t>(size), *fill);
    batches.push_back(e->MakeSequence(std::move(batch)));
  }
  return e->MakeSequence(std::move(batches));
}

// Pairs (key, items), sorted by key.
Value GroupBy(Evaluation* e, const Value& value, const Arguments& arguments) {
  const Value* path = arguments.Find(0, "attribute");
  if (path == nullptr) return e->Fail("an attribute must be named");
  const bool case_sensitive = e->BoolArgument(arguments, 2, "case_sensitive", false);
  std::vector<Value> groups;
  std::vector<Value> members;
  Value key;
  const auto close = [&] {
    if (members.empty()) return;
    groups.push_back(e->MakeSequence({key, e->MakeSequence(std::exchange(members, {}))}, true));
  };
  for (const Value& item : e->Sorted(e->Items(value), path, case_sensitive, false)) {
    const Value own = e->AttributePath(item, *path);
    if (!members.empty() && !Equal(Folded(own, case_sensitive), Folded(key, case_sensitive))) {
      close();
    }
    if (members.empty()) key = own;
    members.push_back(item);
  }
  close();
  return e->MakeSequence(std::move(groups));
}

struct NamedFilter {
  absl::string_view name;
  Filter filter;
};
constexpr NamedFilter kFilters[] = {
    {"length", Length},
    {"count", Length},
    {"list", List},
    {"first", First},
    {"last", Last},
    {"join", Join},
    {"items", ItemsFilter},
    {"map", Map},
    {"select", Select<true, false>},
    {"reject", Select<false, false>},
    {"selectattr", Select<true, true>},
    {"rejectattr", Select<false, true>},
    {"unique", Unique},
    {"sort", Sort},
    {"dictsort", DictSort},
    {"reverse", Reverse},
    {"max", Extreme<true>},
    {"min", Extreme<false>},
    {"sum", Sum},
    {"batch", Batch},
    {"groupby", GroupBy},
};

}  // namespace

Filter FindSequenceFilter(absl::string_view name) {
  for (const NamedFilter& entry : kFilters) {
    if (entry.name == name) return entry.filter;
  }
  return nullptr;
}

}  // namespace pregate
