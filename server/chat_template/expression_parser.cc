#include "server/chat_template/expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/chat_template/builtins.h"
#include "server/chat_template/parser.h"

namespace pregate {
namespace {

using Kind = Expression::Kind;

// Binary levels, loosest first. `or`, `and`, `not` and comparisons stand above the first of the
// arithmetic ones.
enum Precedence { kOrLevel, kAndLevel, kNotLevel, kSum, kConcatenation, kProduct, kPower, kUnary };

bool IsComparison(const Token& token) {
  if (token.kind != Token::Kind::kOperator) return false;
  for (absl::string_view op : {"==", "!=", "<", "<=", ">", ">="}) {
    if (token.text == op) return true;
  }
  return false;
}

}  // namespace

ExpressionParser::Level::Level(ExpressionParser* parser) : parser_(parser) {
  if (++parser_->depth_ > kMaxSyntaxDepth) {
    parser_->Fail(absl::StrCat("nested deeper than ", kMaxSyntaxDepth));
  }
}

void ExpressionParser::Fail(absl::string_view what) {
  if (!error_.ok()) return;
  error_ = absl::FailedPreconditionError(absl::StrCat("line ", current().line, ": ", what));
  at_ = tokens_.size() - 1;
}

void ExpressionParser::Next() {
  if (at_ + 1 < tokens_.size()) ++at_;
}

bool ExpressionParser::IsOperator(absl::string_view op) const {
  return Is(Token::Kind::kOperator) && current().text == op;
}

bool ExpressionParser::IsName(absl::string_view name) const {
  return Is(Token::Kind::kName) && current().text == name;
}

bool ExpressionParser::TakeOperator(absl::string_view op) {
  if (!IsOperator(op)) return false;
  Next();
  return true;
}

bool ExpressionParser::TakeName(absl::string_view name) {
  if (!IsName(name)) return false;
  Next();
  return true;
}

void ExpressionParser::ExpectOperator(absl::string_view op) {
  if (!TakeOperator(op)) Fail(absl::StrCat("expected '", op, "'"));
}

std::string ExpressionParser::ExpectName() {
  if (!Is(Token::Kind::kName)) {
    Fail("expected a name");
    return "";
  }
  std::string name = current().text;
  Next();
  return name;
}

ExpressionPtr ExpressionParser::Finish(ExpressionPtr node) {
  int height = 0;
  for (const ExpressionPtr& part : node->parts) {
    if (part != nullptr) height = std::max(height, part->height);
  }
  for (const Argument& argument : node->arguments) {
    if (argument.value != nullptr) height = std::max(height, argument.value->height);
  }
  node->height = height + 1;
  if (node->height > kMaxSyntaxDepth) {
    Fail(absl::StrCat("an expression nested deeper than ", kMaxSyntaxDepth));
  }
  return ok() ? std::move(node) : nullptr;
}

ExpressionPtr ExpressionParser::Make(Kind kind, std::vector<ExpressionPtr> parts) {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->parts = std::move(parts);
  return Finish(std::move(node));
}

namespace {

std::vector<ExpressionPtr> Parts(ExpressionPtr a) {
  std::vector<ExpressionPtr> parts;
  parts.push_back(std::move(a));
  return parts;
}

}  // namespace

ExpressionPtr ExpressionParser::ParseExpression(bool conditional) {
  const Level level(this);
  if (!ok()) return nullptr;
  ExpressionPtr node = ParseBinary(kOrLevel);
  while (conditional && ok() && TakeName("if")) {
    std::vector<ExpressionPtr> parts;
    parts.push_back(ParseBinary(kOrLevel));
    parts.push_back(std::move(node));
    parts.push_back(TakeName("else") ? ParseExpression() : nullptr);
    if (!ok()) return nullptr;
    node = Make(Kind::kConditional, std::move(parts));
  }
  return node;
}

ExpressionPtr ExpressionParser::ParseTuple(bool conditional) {
  ExpressionPtr first = ParseExpression(conditional);
  if (!IsOperator(",")) return first;
  std::vector<ExpressionPtr> parts = Parts(std::move(first));
  while (ok() && TakeOperator(",")) {
    const bool ends = Is(Token::Kind::kPrintEnd) || Is(Token::Kind::kBlockEnd) || IsOperator(")") ||
                      IsOperator("=");
    if (ends) break;
    parts.push_back(ParseExpression(conditional));
  }
  return ok() ? Make(Kind::kTuple, std::move(parts)) : nullptr;
}

ExpressionPtr ExpressionParser::ParseBinary(int precedence) {
  static constexpr absl::string_view kOperatorsAt[][4] = {
      {}, {}, {}, {"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}};
  if (!ok()) return nullptr;
  if (precedence == kUnary) return ParseUnary(true);
  if (precedence == kNotLevel) {
    if (!TakeName("not")) return ParseComparison();
    const Level level(this);
    ExpressionPtr operand = ParseBinary(kNotLevel);
    return ok() ? Make(Kind::kNot, Parts(std::move(operand))) : nullptr;
  }
  const auto take = [&]() -> std::string {
    if (precedence == kOrLevel) return TakeName("or") ? "or" : "";
    if (precedence == kAndLevel) return TakeName("and") ? "and" : "";
    for (absl::string_view op : kOperatorsAt[precedence]) {
      if (!op.empty() && TakeOperator(op)) return std::string(op);
    }
    return "";
  };
  ExpressionPtr first = ParseBinary(precedence + 1);
  std::string op = take();
  if (op.empty()) return first;
  std::vector<ExpressionPtr> parts = Parts(std::move(first));
  std::vector<std::string> operators;
  for (; !op.empty() && ok(); op = take()) {
    parts.push_back(ParseBinary(precedence + 1));
    operators.push_back(op);
  }
  if (!ok()) return nullptr;
  const Kind kind = precedence == kOrLevel         ? Kind::kOr
                    : precedence == kAndLevel      ? Kind::kAnd
                    : precedence == kConcatenation ? Kind::kConcatenate
                                                   : Kind::kChain;
  ExpressionPtr node = Make(kind, std::move(parts));
  if (node != nullptr) node->operators = std::move(operators);
  return node;
}

ExpressionPtr ExpressionParser::ParseComparison() {
  ExpressionPtr first = ParseBinary(kSum);
  std::vector<ExpressionPtr> parts = Parts(std::move(first));
  std::vector<std::string> operators;
  while (ok()) {
    if (IsComparison(current())) {
      operators.push_back(current().text);
      Next();
    } else if (TakeName("in")) {
      operators.push_back("in");
    } else if (IsName("not") && tokens_[at_ + 1].kind == Token::Kind::kName &&
               tokens_[at_ + 1].text == "in") {
      Next();
      Next();
      operators.push_back("not in");
    } else {
      break;
    }
    parts.push_back(ParseBinary(kSum));
  }
  if (!ok()) return nullptr;
  if (operators.empty()) return std::move(parts[0]);
  ExpressionPtr node = Make(Kind::kComparison, std::move(parts));
  if (node != nullptr) node->operators = std::move(operators);
  return node;
}

ExpressionPtr ExpressionParser::ParseUnary(bool with_filters) {
  const Level level(this);
  if (!ok()) return nullptr;
  ExpressionPtr node;
  if (IsOperator("-") || IsOperator("+")) {
    const Kind kind = IsOperator("-") ? Kind::kNegate : Kind::kPlus;
    Next();
    ExpressionPtr operand = ParseUnary(false);
    node = ok() ? Make(kind, Parts(std::move(operand))) : nullptr;
  } else {
    node = ParsePrimary();
  }
  node = ParsePostfix(std::move(node));
  return with_filters ? ParseFilters(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::ParsePrimary() {
  if (!ok()) return nullptr;
  ExpressionPtr node = Make(Kind::kLiteral, {});
  const Token& token = current();
  switch (token.kind) {
    case Token::Kind::kName:
      return ParseName();
    case Token::Kind::kString: {
      std::string text;
      for (; Is(Token::Kind::kString); Next()) text += current().text;
      node->literal = Value::String(text);
      return node;
    }
    case Token::Kind::kInteger: {
      int64_t number = 0;
      if (!absl::SimpleAtoi(token.text, &number)) Fail("a number is too large");
      node->literal = Value(number);
      Next();
      return ok() ? std::move(node) : nullptr;
    }
    case Token::Kind::kFloat: {
      double number = 0;
      if (!absl::SimpleAtod(token.text, &number)) Fail("not a number");
      node->literal = Value(number);
      Next();
      return ok() ? std::move(node) : nullptr;
    }
    default:
      break;
  }
  if (TakeOperator("(")) {
    if (TakeOperator(")")) return Make(Kind::kTuple, {});
    node = ParseTuple();
    ExpectOperator(")");
    return ok() ? std::move(node) : nullptr;
  }
  if (TakeOperator("[")) {
    std::vector<ExpressionPtr> items = ParseItems("]");
    return ok() ? Make(Kind::kList, std::move(items)) : nullptr;
  }
  if (TakeOperator("{")) return ParseDict();
  Fail("expected an expression");
  return nullptr;
}

ExpressionPtr ExpressionParser::ParseName() {
  const std::string name = ExpectName();
  const bool is_true = name == "true" || name == "True";
  const bool is_none = name == "none" || name == "None";
  const bool is_literal = is_true || is_none || name == "false" || name == "False";
  ExpressionPtr node = Make(is_literal ? Kind::kLiteral : Kind::kName, {});
  if (is_literal) {
    node->literal = is_none ? Value(None{}) : Value(is_true);
  } else {
    node->name = name;
  }
  return node;
}

std::vector<ExpressionPtr> ExpressionParser::ParseItems(absl::string_view close) {
  std::vector<ExpressionPtr> items;
  while (ok() && !TakeOperator(close)) {
    if (!items.empty()) {
      ExpectOperator(",");
      if (TakeOperator(close)) break;
    }
    items.push_back(ParseExpression());
  }
  return items;
}

ExpressionPtr ExpressionParser::ParseDict() {
  std::vector<ExpressionPtr> parts;
  while (ok() && !TakeOperator("}")) {
    if (!parts.empty()) {
      ExpectOperator(",");
      if (TakeOperator("}")) break;
    }
    parts.push_back(ParseExpression());
    ExpectOperator(":");
    parts.push_back(ParseExpression());
  }
  return ok() ? Make(Kind::kDict, std::move(parts)) : nullptr;
}

ExpressionPtr ExpressionParser::ParsePostfix(ExpressionPtr node) {
  while (ok()) {
    if (TakeOperator(".")) {
      if (Is(Token::Kind::kInteger)) {
        std::vector<ExpressionPtr> parts = Parts(std::move(node));
        parts.push_back(ParsePrimary());
        node = ok() ? Make(Kind::kElement, std::move(parts)) : nullptr;
        continue;
      }
      const std::string name = ExpectName();
      node = ok() ? Make(Kind::kAttribute, Parts(std::move(node))) : nullptr;
      if (node != nullptr) node->name = name;
    } else if (TakeOperator("[")) {
      node = ParseSubscript(std::move(node));
    } else if (IsOperator("(")) {
      node = Make(Kind::kCall, Parts(std::move(node)));
      if (node == nullptr) break;
      node->arguments = ParseArguments();
      node = Finish(std::move(node));
    } else {
      break;
    }
  }
  return ok() ? std::move(node) : nullptr;
}

ExpressionPtr ExpressionParser::ParseSubscript(ExpressionPtr node) {
  std::vector<ExpressionPtr> parts = Parts(std::move(node));
  const auto bound = [&] {
    return IsOperator(":") || IsOperator("]") ? nullptr : ParseExpression();
  };
  parts.push_back(bound());
  if (ok() && parts.back() != nullptr && TakeOperator("]")) {
    return Make(Kind::kElement, std::move(parts));
  }
  ExpectOperator(":");
  parts.push_back(bound());
  parts.push_back(TakeOperator(":") ? bound() : nullptr);
  ExpectOperator("]");
  return ok() ? Make(Kind::kSlice, std::move(parts)) : nullptr;
}

std::vector<Argument> ExpressionParser::ParseArguments() {
  ExpectOperator("(");
  std::vector<Argument> arguments;
  while (ok() && !TakeOperator(")")) {
    if (!arguments.empty()) {
      ExpectOperator(",");
      if (TakeOperator(")")) break;
    }
    Argument argument;
    const bool named = Is(Token::Kind::kName) && tokens_[at_ + 1].kind == Token::Kind::kOperator &&
                       tokens_[at_ + 1].text == "=";
    if (named) {
      argument.name = ExpectName();
      Next();
    } else if (!arguments.empty() && !arguments.back().name.empty()) {
      Fail("an argument by position follows one by name");
    }
    argument.value = ParseExpression();
    arguments.push_back(std::move(argument));
  }
  return arguments;
}

ExpressionPtr ExpressionParser::ParseFilters(ExpressionPtr node) {
  while (ok()) {
    if (TakeOperator("|")) {
      node = ParseFilter(std::move(node));
    } else if (TakeName("is")) {
      node = ParseTest(std::move(node));
    } else if (IsOperator("(")) {
      node = ParsePostfix(std::move(node));
    } else {
      break;
    }
  }
  return ok() ? std::move(node) : nullptr;
}

ExpressionPtr ExpressionParser::ParseFilter(ExpressionPtr node) {
  const std::string name = ExpectName();
  if (ok() && FindFilter(name) == nullptr) Fail(absl::StrCat("unknown filter ", name));
  if (!ok()) return nullptr;
  ExpressionPtr filter = Make(Kind::kFilter, Parts(std::move(node)));
  if (filter == nullptr) return nullptr;
  filter->name = name;
  if (IsOperator("(")) filter->arguments = ParseArguments();
  return Finish(std::move(filter));
}

ExpressionPtr ExpressionParser::ParseFilterChain() {
  ExpressionPtr node = ParseFilter(nullptr);
  while (ok() && TakeOperator("|")) node = ParseFilter(std::move(node));
  return ok() ? std::move(node) : nullptr;
}

ExpressionPtr ExpressionParser::ParseTest(ExpressionPtr node) {
  const bool negated = TakeName("not");
  const std::string name = ExpectName();
  if (ok() && FindTest(name) == nullptr) Fail(absl::StrCat("unknown test ", name));
  if (!ok()) return nullptr;
  ExpressionPtr test = Make(Kind::kTest, Parts(std::move(node)));
  if (test == nullptr) return nullptr;
  test->name = name;
  const bool bare_argument = Is(Token::Kind::kString) || Is(Token::Kind::kInteger) ||
                             Is(Token::Kind::kFloat) || IsOperator("[") || IsOperator("{") ||
                             (Is(Token::Kind::kName) && !IsName("else") && !IsName("or") &&
                              !IsName("and") && !IsName("if"));
  if (IsOperator("(")) {
    test->arguments = ParseArguments();
  } else if (IsName("is")) {
    Fail("tests cannot follow each other");
  } else if (bare_argument) {
    Argument argument;
    argument.value = ParsePostfix(ParsePrimary());
    test->arguments.push_back(std::move(argument));
  }
  if (!ok()) return nullptr;
  ExpressionPtr finished = Finish(std::move(test));
  if (!negated || finished == nullptr) return finished;
  return Make(Kind::kNot, Parts(std::move(finished)));
}

}  // namespace pregate
