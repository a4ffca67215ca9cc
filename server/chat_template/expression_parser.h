// The expressions of chat templates: a recursive-descent parser over tokens.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_EXPRESSION_PARSER_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_EXPRESSION_PARSER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/chat_template/lexer.h"
#include "server/chat_template/syntax.h"

namespace pregate {

// Errors are sticky: after the first one the stream reads as ended, every function returns null,
// and error() tells what happened.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const absl::Status& error() const { return error_; }
  bool ok() const { return error_.ok(); }
  void Fail(absl::string_view what);

  const Token& current() const { return tokens_[at_]; }
  void Next();
  bool Is(Token::Kind kind) const { return current().kind == kind; }
  bool IsOperator(absl::string_view op) const;
  bool IsName(absl::string_view name) const;
  bool TakeOperator(absl::string_view op);
  bool TakeName(absl::string_view name);
  void ExpectOperator(absl::string_view op);
  std::string ExpectName();

  // `conditional`: whether "a if b else c" is taken.
  ExpressionPtr ParseExpression(bool conditional = true);
  // One expression, or several with commas between them: a tuple.
  ExpressionPtr ParseTuple(bool conditional = true);
  // "name(arguments)|name..." of a filter block: filters over a null operand.
  ExpressionPtr ParseFilterChain();

  // Counts one more level of nesting while it lives.
  class Level {
   public:
    explicit Level(ExpressionParser* parser);
    ~Level() { --parser_->depth_; }

   private:
    ExpressionParser* parser_;
  };

 private:
  ExpressionPtr Make(Expression::Kind kind, std::vector<ExpressionPtr> parts);
  // Sets the height of a finished node, and refuses what is too high.
  ExpressionPtr Finish(ExpressionPtr node);
  ExpressionPtr ParseBinary(int precedence);
  ExpressionPtr ParseComparison();
  ExpressionPtr ParseUnary(bool with_filters);
  ExpressionPtr ParsePrimary();
  ExpressionPtr ParseName();
  ExpressionPtr ParseDict();
  ExpressionPtr ParsePostfix(ExpressionPtr node);
  ExpressionPtr ParseFilters(ExpressionPtr node);
  ExpressionPtr ParseFilter(ExpressionPtr node);
  ExpressionPtr ParseTest(ExpressionPtr node);
  ExpressionPtr ParseSubscript(ExpressionPtr node);
  std::vector<ExpressionPtr> ParseItems(absl::string_view close);
  std::vector<Argument> ParseArguments();

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  absl::Status error_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_EXPRESSION_PARSER_H_
