// Global functions, and the methods of lists, dicts and loops.
#include <algorithm>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/chat_template/builtins.h"
#include "server/chat_template/evaluation.h"

namespace pregate {
namespace {

Value Range(Evaluation* e, const Arguments& arguments) {
  const size_t count = arguments.positional.size();
  if (count < 1 || count > 3) return e->Fail("range takes one to three numbers");
  const int64_t first = e->IntegerArgument(arguments, 0, "", 0);
  const int64_t start = count == 1 ? 0 : first;
  const int64_t stop = count == 1 ? first : e->IntegerArgument(arguments, 1, "", 0);
  const int64_t step = e->IntegerArgument(arguments, 2, "", 1);
  if (!e->ok()) return Value();
  if (step == 0) return e->Fail("range needs a step other than 0");
  std::vector<Value> numbers;
  for (int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (static_cast<int64_t>(numbers.size()) == kMaxRangeLength) {
      return e->Fail(absl::StrCat("range is longer than ", kMaxRangeLength));
    }
    numbers.push_back(Value(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return e->MakeSequence(std::move(numbers));
}

// dict(other, a=1): pairs or a dict, then named arguments.
Mapping ReadMapping(Evaluation* e, const Arguments& arguments) {
  Mapping mapping;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.mapping() != nullptr) {
      mapping = *source.mapping();
    } else {
      for (const Value& pair : e->Items(source)) {
        const std::vector<Value> both = e->Items(pair);
        if (both.size() != 2) {
          e->Fail("dict needs pairs");
          break;
        }
        if (!e->Spend(1 + static_cast<int64_t>(mapping.entries.size() / 16))) break;
        mapping.Set(both[0], both[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) mapping.Set(Value::String(name), value);
  return mapping;
}

Value Dict(Evaluation* e, const Arguments& arguments) {
  return e->MakeMapping(ReadMapping(e, arguments));
}

Value MakeNamespace(Evaluation* e, const Arguments& arguments) {
  const Value attributes = e->MakeMapping(ReadMapping(e, arguments));
  auto space = std::make_shared<Namespace>();
  if (attributes.mapping() != nullptr) space->attributes = *attributes.mapping();
  return Value(std::move(space));
}

Value RaiseException(Evaluation* e, const Arguments& arguments) {
  const Value* message = arguments.Find(0, "message");
  e->Raise(message == nullptr ? "" : e->ToText(*message).bytes());
  return Value();
}

Value StrftimeNow(Evaluation* e, const Arguments& arguments) {
  const std::string format = e->TextArgument(arguments, 0, "format", "").bytes();
  const absl::CivilSecond now = e->now();
  std::tm time = {};
  time.tm_year = static_cast<int>(now.year() - 1900);
  time.tm_mon = now.month() - 1;
  time.tm_mday = now.day();
  time.tm_hour = now.hour();
  time.tm_min = now.minute();
  time.tm_sec = now.second();
  time.tm_wday = (static_cast<int>(absl::GetWeekday(now)) + 1) % 7;
  time.tm_yday = absl::GetYearDay(now) - 1;
  char buffer[256];
  const size_t size = std::strftime(buffer, sizeof(buffer), format.c_str(), &time);
  if (size == 0 && !format.empty()) return e->Fail("strftime_now: a format that gives no text");
  const Value* value = arguments.Find(0, "format");
  return e->MakeText(std::string(buffer, size), value != nullptr && value->HasClientBytes());
}

Value Items(Evaluation* e, const Value& self, const Arguments& arguments) {
  return FindFilter("items")(e, self, arguments);
}
Value Keys(Evaluation* e, const Value& self, const Arguments&) {
  return e->MakeSequence(e->Items(self));
}
Value Values(Evaluation* e, const Value& self, const Arguments&) {
  std::vector<Value> values;
  for (const auto& [key, value] : self.mapping()->entries) values.push_back(value);
  return e->MakeSequence(std::move(values));
}
Value Get(Evaluation* e, const Value& self, const Arguments& arguments) {
  const Value* key = arguments.Find(0, "");
  if (key == nullptr) return e->Fail("an argument is missing");
  e->Spend(static_cast<int64_t>(self.mapping()->entries.size() / 16));
  const Value* found = self.mapping()->Find(*key);
  const Value* other = arguments.Find(1, "");
  return found != nullptr ? *found : (other != nullptr ? *other : Value(None{}));
}
Value Copy(Evaluation*, const Value& self, const Arguments&) { return self; }

// Values are shared, so nothing may change them.
Value Refuse(Evaluation* e, const Value& self, const Arguments&) {
  return e->Fail(absl::StrCat("a ", self.TypeName(), " cannot be changed"));
}

Value CountItems(Evaluation* e, const Value& self, const Arguments& arguments) {
  const Value* wanted = arguments.Find(0, "");
  if (wanted == nullptr) return e->Fail("an argument is missing");
  const std::vector<Value>& items = self.sequence()->items;
  e->Spend(static_cast<int64_t>(items.size() / 8));
  return Value(static_cast<int64_t>(std::count_if(
      items.begin(), items.end(), [&](const Value& item) { return Equal(item, *wanted); })));
}
Value IndexOf(Evaluation* e, const Value& self, const Arguments& arguments) {
  const Value* wanted = arguments.Find(0, "");
  if (wanted == nullptr) return e->Fail("an argument is missing");
  const std::vector<Value>& items = self.sequence()->items;
  e->Spend(static_cast<int64_t>(items.size() / 8));
  const auto found = std::find_if(items.begin(), items.end(),
                                  [&](const Value& item) { return Equal(item, *wanted); });
  if (found == items.end()) return e->Fail("index: not in the list");
  return Value(static_cast<int64_t>(found - items.begin()));
}

Value Cycle(Evaluation* e, const Value& self, const Arguments& arguments) {
  if (arguments.positional.empty()) return e->Fail("cycle needs values");
  return arguments.positional[self.loop()->index % arguments.positional.size()];
}

struct NamedFunction {
  absl::string_view name;
  Function function;
};
constexpr NamedFunction kFunctions[] = {
    {"range", Range},
    {"dict", Dict},
    {"namespace", MakeNamespace},
    {"raise_exception", RaiseException},
    {"strftime_now", StrftimeNow},
};

struct NamedMethod {
  absl::string_view name;
  Method method;
};
constexpr NamedMethod kMappingMethods[] = {
    {"items", Items},    {"keys", Keys},         {"values", Values}, {"get", Get},
    {"copy", Copy},      {"update", Refuse},     {"pop", Refuse},    {"clear", Refuse},
    {"popitem", Refuse}, {"setdefault", Refuse},
};
constexpr NamedMethod kListMethods[] = {
    {"count", CountItems}, {"index", IndexOf}, {"copy", Copy},      {"append", Refuse},
    {"extend", Refuse},    {"insert", Refuse}, {"remove", Refuse},  {"pop", Refuse},
    {"clear", Refuse},     {"sort", Refuse},   {"reverse", Refuse},
};
constexpr NamedMethod kLoopMethods[] = {{"cycle", Cycle}};

template <typename Table>
auto Find(const Table& table, absl::string_view name) -> decltype(table[0].method) {
  for (const auto& entry : table) {
    if (entry.name == name) return entry.method;
  }
  return nullptr;
}

}  // namespace

Function FindFunction(absl::string_view name) {
  for (const NamedFunction& entry : kFunctions) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

Method FindMethod(const Value& self, absl::string_view name) {
  if (self.text() != nullptr) return FindTextMethod(name);
  if (self.mapping() != nullptr) return Find(kMappingMethods, name);
  if (self.sequence() != nullptr) return Find(kListMethods, name);
  if (self.loop() != nullptr) return Find(kLoopMethods, name);
  return nullptr;
}

}  // namespace pregate
