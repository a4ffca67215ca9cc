// Evaluation of expressions.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/chat_template/interpreter.h"

namespace pregate {

using Kind = Expression::Kind;

Value Interpreter::Evaluate(const Expression& node) {
  const Level level(this);
  if (!Spend(1)) return Value();
  switch (node.kind) {
    case Kind::kLiteral:
      return node.literal;
    case Kind::kName:
      return EvaluateName(node.name);
    case Kind::kAttribute:
      return Attribute(Evaluate(*node.parts[0]), node.name);
    case Kind::kElement: {
      const Value container = Evaluate(*node.parts[0]);
      return Element(container, Evaluate(*node.parts[1]));
    }
    case Kind::kSlice:
      return EvaluateSlice(node);
    case Kind::kCall:
      return EvaluateCall(node);
    case Kind::kFilter:
      return ApplyFilter(node, nullptr);
    case Kind::kTest:
      return EvaluateTest(node);
    case Kind::kList:
    case Kind::kTuple:
      return EvaluateItems(node);
    case Kind::kDict:
      return EvaluateDict(node);
    case Kind::kChain:
    case Kind::kConcatenate:
      return EvaluateChain(node);
    case Kind::kComparison:
      return EvaluateComparison(node);
    case Kind::kAnd:
    case Kind::kOr:
      return EvaluateLogic(node);
    case Kind::kNot:
      return Value(!Evaluate(*node.parts[0]).Truthy());
    case Kind::kNegate:
    case Kind::kPlus:
      return EvaluateSign(node);
    case Kind::kConditional:
      break;
  }
  if (Evaluate(*node.parts[0]).Truthy()) return Evaluate(*node.parts[1]);
  if (node.parts[2] == nullptr) return Value(Undefined{"an if without else"});
  return Evaluate(*node.parts[2]);
}

Value Interpreter::EvaluateName(const std::string& name) {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    const auto found = scope->variables.find(name);
    if (found != scope->variables.end()) return found->second;
  }
  if (FindFunction(name) == nullptr) return Value(Undefined{name});
  auto callable = std::make_shared<Callable>();
  callable->name = name;
  return Value(Value::CallablePtr(std::move(callable)));
}

Value Interpreter::EvaluateItems(const Expression& node) {
  std::vector<Value> items;
  for (const ExpressionPtr& part : node.parts) items.push_back(Evaluate(*part));
  return MakeSequence(std::move(items), node.kind == Kind::kTuple);
}

Value Interpreter::EvaluateDict(const Expression& node) {
  Mapping mapping;
  for (size_t i = 0; i + 1 < node.parts.size() && ok(); i += 2) {
    Value key = Evaluate(*node.parts[i]);
    if (key.mapping() != nullptr || (key.sequence() != nullptr && !key.sequence()->is_tuple)) {
      return Fail(absl::StrCat("a ", key.TypeName(), " cannot be a key"));
    }
    mapping.Set(std::move(key), Evaluate(*node.parts[i + 1]));
  }
  return MakeMapping(std::move(mapping));
}

Value Interpreter::EvaluateSlice(const Expression& node) {
  const Value value = Evaluate(*node.parts[0]);
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    const ExpressionPtr& bound = node.parts[i + 1];
    bounds[i] = bound == nullptr ? Value(None{}) : Evaluate(*bound);
  }
  return ok() ? Slice(value, bounds[0], bounds[1], bounds[2]) : Value();
}

Value Interpreter::EvaluateLogic(const Expression& node) {
  Value value;
  for (const ExpressionPtr& part : node.parts) {
    value = Evaluate(*part);
    if (value.Truthy() == (node.kind == Kind::kOr)) break;
  }
  return value;
}

Value Interpreter::EvaluateChain(const Expression& node) {
  if (node.kind == Kind::kConcatenate) {
    TaggedText text;
    for (const ExpressionPtr& part : node.parts) text.Append(ToText(Evaluate(*part)));
    return MakeText(std::move(text));
  }
  Value value = Evaluate(*node.parts[0]);
  for (size_t i = 0; i < node.operators.size() && ok(); ++i) {
    const Value operand = Evaluate(*node.parts[i + 1]);
    if (ok()) value = Binary(node.operators[i], value, operand);
  }
  return value;
}

Value Interpreter::EvaluateComparison(const Expression& node) {
  Value left = Evaluate(*node.parts[0]);
  for (size_t i = 0; i < node.operators.size() && ok(); ++i) {
    Value right = Evaluate(*node.parts[i + 1]);
    if (!ok() || !CompareWith(node.operators[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::EvaluateSign(const Expression& node) {
  const Value value = Evaluate(*node.parts[0]);
  if (!ok()) return Value();
  if (!value.is_number()) return Fail(absl::StrCat("a sign before ", value.TypeName()));
  if (value.is_float()) return Value(node.kind == Kind::kPlus ? *value.number() : -*value.number());
  return Binary(node.kind == Kind::kPlus ? "+" : "-", Value(int64_t{0}), value);
}

Arguments Interpreter::EvaluateArguments(const std::vector<Argument>& arguments) {
  Arguments values;
  for (const Argument& argument : arguments) {
    Value value = Evaluate(*argument.value);
    if (argument.name.empty()) {
      values.positional.push_back(std::move(value));
    } else {
      values.named.emplace_back(argument.name, std::move(value));
    }
  }
  return values;
}

Value Interpreter::EvaluateCall(const Expression& node) {
  const Value callee = Evaluate(*node.parts[0]);
  const Arguments arguments = EvaluateArguments(node.arguments);
  return ok() ? Call(callee, arguments) : Value();
}

Value Interpreter::Call(const Value& callee, const Arguments& arguments) {
  if (const Undefined* undefined = callee.As<Undefined>()) {
    return Fail(absl::StrCat("'", undefined->name, "' is undefined"));
  }
  const Callable* callable = callee.callable();
  if (callable == nullptr) return Fail(absl::StrCat("a ", callee.TypeName(), " is no function"));
  switch (callable->kind) {
    case Callable::Kind::kMacro:
      return CallMacro(*callable, arguments);
    case Callable::Kind::kMethod:
      return FindMethod(*callable->self, callable->name)(this, *callable->self, arguments);
    case Callable::Kind::kFunction:
      break;
  }
  return FindFunction(callable->name)(this, arguments);
}

Value Interpreter::ApplyFilter(const Expression& node, const TaggedText* innermost) {
  const Level level(this);
  if (!Spend(1)) return Value();
  Value value;
  if (node.parts[0] == nullptr) {
    value = MakeText(*innermost);
  } else if (innermost != nullptr) {
    value = ApplyFilter(*node.parts[0], innermost);
  } else {
    value = Evaluate(*node.parts[0]);
  }
  const Arguments arguments = EvaluateArguments(node.arguments);
  return ok() ? FindFilter(node.name)(this, value, arguments) : Value();
}

Value Interpreter::EvaluateTest(const Expression& node) {
  const Value value = Evaluate(*node.parts[0]);
  const Arguments arguments = EvaluateArguments(node.arguments);
  return Value(ok() && FindTest(node.name)(this, value, arguments));
}

}  // namespace pregate
