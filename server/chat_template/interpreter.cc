#include "server/chat_template/interpreter.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {

class Interpreter::Enter {
 public:
  Enter(Interpreter* interpreter, std::shared_ptr<Scope> parent)
      : interpreter_(interpreter), before_(std::move(interpreter->scope_)) {
    interpreter_->scope_ = std::make_shared<Scope>();
    interpreter_->scope_->parent = std::move(parent);
  }
  explicit Enter(Interpreter* interpreter) : Enter(interpreter, interpreter->scope_) {}
  ~Enter() { interpreter_->scope_ = std::move(before_); }
  Enter(const Enter&) = delete;
  Enter& operator=(const Enter&) = delete;

 private:
  Interpreter* interpreter_;
  std::shared_ptr<Scope> before_;
};

Interpreter::Level::Level(Interpreter* interpreter) : interpreter_(interpreter) {
  if (++interpreter_->depth_ > kMaxEvaluationDepth) {
    interpreter_->Fail(absl::StrCat("nested deeper than ", kMaxEvaluationDepth));
  }
}

absl::StatusOr<TaggedText> Interpreter::Render(const Block& block,
                                               std::map<std::string, Value> variables) {
  scope_ = std::make_shared<Scope>();
  scope_->variables = std::move(variables);
  Run(block);
  scope_.reset();
  if (!ok()) return error();
  return std::move(output_);
}

void Interpreter::Print(const TaggedText& text) {
  output_.Append(text);
  SpendBytes(text.bytes().size());
  if (output_.bytes().size() > kMaxRenderedBytes) MakeText(std::exchange(output_, {}));  // fails
}

TaggedText Interpreter::Capture(const Block& block) {
  const Enter scope(this);
  TaggedText before = std::exchange(output_, TaggedText());
  Run(block);
  std::swap(before, output_);
  return before;
}

Interpreter::Flow Interpreter::Run(const Block& block) {
  for (const Statement& statement : block) {
    set_line(statement.line);
    if (!Spend(1)) return Flow::kBreak;
    const Flow flow = RunStatement(statement);
    if (flow != Flow::kNext) return flow;
  }
  return ok() ? Flow::kNext : Flow::kBreak;
}

Interpreter::Flow Interpreter::RunStatement(const Statement& statement) {
  using Kind = Statement::Kind;
  const Level level(this);
  if (!ok()) return Flow::kBreak;
  switch (statement.kind) {
    case Kind::kText:
      Print(TaggedText(statement.text));
      break;
    case Kind::kPrint:
      Print(ToText(Evaluate(*statement.expression)));
      break;
    case Kind::kIf:
      return RunIf(statement);
    case Kind::kFor:
      return RunFor(statement);
    case Kind::kScope:
      return RunScope(statement);
    case Kind::kSet:
      Assign(statement.target, Evaluate(*statement.expression));
      break;
    case Kind::kSetBlock:
      RunSetBlock(statement);
      break;
    case Kind::kMacro:
      scope_->variables[statement.macro->name] = MakeMacro(*statement.macro);
      break;
    case Kind::kCallBlock:
      RunCallBlock(statement);
      break;
    case Kind::kFilter: {
      const TaggedText body = Capture(statement.branches[0]);
      Print(ToText(ApplyFilter(*statement.filter, &body)));
      break;
    }
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::RunIf(const Statement& statement) {
  for (size_t i = 0; i < statement.branches.size() && ok(); ++i) {
    const bool taken =
        i >= statement.conditions.size() || Evaluate(*statement.conditions[i]).Truthy();
    if (taken) return Run(statement.branches[i]);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::RunFor(const Statement& statement) {
  std::vector<Value> items = Items(Evaluate(*statement.expression));
  if (statement.filter != nullptr) {
    std::vector<Value> kept;
    for (Value& item : items) {
      const Enter scope(this);
      Assign(statement.target, item);
      if (Evaluate(*statement.filter).Truthy()) kept.push_back(std::move(item));
      if (!Spend(1)) return Flow::kBreak;
    }
    items = std::move(kept);
  }
  if (items.empty() && statement.branches.size() > 1) {
    const Enter scope(this);
    return Run(statement.branches[1]);
  }
  auto loop = std::make_shared<LoopState>();
  loop->items = std::move(items);
  for (; loop->index < loop->items.size() && Spend(1); ++loop->index) {
    const Enter scope(this);
    scope_->variables["loop"] = Value(loop);
    Assign(statement.target, loop->items[loop->index]);
    if (Run(statement.branches[0]) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::RunScope(const Statement& statement) {
  std::vector<Value> values;
  for (const ExpressionPtr& value : statement.conditions) values.push_back(Evaluate(*value));
  const Enter scope(this);
  for (size_t i = 0; i < values.size(); ++i) Assign(statement.targets[i], values[i]);
  return Run(statement.branches[0]);
}

void Interpreter::RunSetBlock(const Statement& statement) {
  const TaggedText body = Capture(statement.branches[0]);
  Assign(statement.target,
         statement.filter == nullptr ? MakeText(body) : ApplyFilter(*statement.filter, &body));
}

void Interpreter::RunCallBlock(const Statement& statement) {
  const Value caller = MakeMacro(*statement.macro);
  const Value callee = Evaluate(*statement.expression->parts[0]);
  Arguments arguments = EvaluateArguments(statement.expression->arguments);
  arguments.named.emplace_back("caller", caller);
  if (ok()) Print(ToText(Call(callee, arguments)));
}

void Interpreter::Assign(const Target& target, const Value& value) {
  if (!ok()) return;
  if (!target.members.empty()) {
    const std::vector<Value> items = Items(value);
    if (items.size() != target.members.size()) {
      Fail(absl::StrCat("cannot unpack ", items.size(), " values into ", target.members.size()));
    }
    for (size_t i = 0; ok() && i < items.size(); ++i) Assign(target.members[i], items[i]);
    return;
  }
  if (target.attribute.empty()) {
    scope_->variables[target.name] = value;
    return;
  }
  const Value object = EvaluateName(target.name);
  if (object.space() == nullptr) {
    Fail(absl::StrCat("cannot set an attribute of '", target.name, "', which is no namespace"));
  } else if (!value.Storable()) {
    Fail(absl::StrCat("a ", value.TypeName(), " cannot be put into a namespace"));
  } else {
    Mapping& attributes = object.space()->attributes;
    Spend(static_cast<int64_t>(attributes.entries.size() / 16));
    attributes.Set(Value::String(target.attribute), value);
  }
}

Value Interpreter::MakeMacro(const MacroDefinition& definition) {
  auto callable = std::make_shared<Callable>();
  callable->kind = Callable::Kind::kMacro;
  callable->macro = &definition;
  callable->scope = scope_;
  return Value(Value::CallablePtr(std::move(callable)));
}

Value Interpreter::CallMacro(const Callable& callable, const Arguments& arguments) {
  const MacroDefinition& macro = *callable.macro;
  std::shared_ptr<Scope> outside = callable.scope.lock();
  if (outside == nullptr) return Fail("a macro is called outside of where it was defined");
  const Enter scope(this, std::move(outside));
  const std::vector<Parameter>& parameters = macro.parameters;
  for (size_t i = 0; i < parameters.size() && ok(); ++i) {
    const Value* given = arguments.Find(i, parameters[i].name);
    Value value = Undefined{parameters[i].name};
    if (given != nullptr) {
      value = *given;
    } else if (parameters[i].default_value != nullptr) {
      value = Evaluate(*parameters[i].default_value);
    }
    scope_->variables[parameters[i].name] = std::move(value);
  }
  std::vector<Value> more;
  for (size_t i = parameters.size(); i < arguments.positional.size(); ++i) {
    more.push_back(arguments.positional[i]);
  }
  scope_->variables.emplace("varargs", MakeSequence(std::move(more), true));
  Mapping others;
  for (const auto& [name, value] : arguments.named) {
    const bool is_caller = name == "caller";
    if (is_caller) scope_->variables["caller"] = value;
    const bool taken = is_caller || scope_->variables.count(name) > 0;
    if (!taken) others.Set(Value::String(name), value);
  }
  scope_->variables.emplace("kwargs", MakeMapping(std::move(others)));
  if (!ok()) return Value();
  return MakeText(Capture(macro.body));
}

}  // namespace pregate
