// The fixed list of what a chat template can call. Nothing here reads or writes anything outside of
// its arguments.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_BUILTINS_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_BUILTINS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/chat_template/value.h"

namespace pregate {

class Evaluation;

// The arguments of one call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument at `position` or called `name`; null if absent. An empty `name` is by position
  // only.
  const Value* Find(size_t position, absl::string_view name) const;
};

// `value|name(arguments)` and `value is name(arguments)`.
using Filter = Value (*)(Evaluation* evaluation, const Value& value, const Arguments& arguments);
using Test = bool (*)(Evaluation* evaluation, const Value& value, const Arguments& arguments);
using Function = Value (*)(Evaluation* evaluation, const Arguments& arguments);
using Method = Value (*)(Evaluation* evaluation, const Value& self, const Arguments& arguments);

// Null where there is none of that name.
Filter FindFilter(absl::string_view name);
Filter FindTextFilter(absl::string_view name);      // of these those that work on text
Filter FindSequenceFilter(absl::string_view name);  // ... and on lists and dicts
Test FindTest(absl::string_view name);
Function FindFunction(absl::string_view name);
// A method of values of self's type.
Method FindMethod(const Value& self, absl::string_view name);
Method FindTextMethod(absl::string_view name);  // of these those of strings

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_BUILTINS_H_
