#include "server/chat_template/parser.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/chat_template/expression_parser.h"
#include "server/chat_template/lexer.h"

namespace pregate {
namespace {

using Kind = Statement::Kind;

class TemplateParser {
 public:
  explicit TemplateParser(std::vector<Token> tokens) : stream_(std::move(tokens)) {}

  absl::StatusOr<Block> Run() {
    Block block = ParseBlock({});
    if (stream_.ok() && !stream_.Is(Token::Kind::kEnd)) stream_.Fail("unexpected token");
    if (!stream_.ok()) return stream_.error();
    return block;
  }

 private:
  // Statements up to a tag whose name is in `ends`, which is left to the caller with its name as
  // the current token; or up to the end of the template if `ends` is empty.
  Block ParseBlock(const std::vector<absl::string_view>& ends) {
    const ExpressionParser::Level level(&stream_);
    Block block;
    while (stream_.ok() && !stream_.Is(Token::Kind::kEnd)) {
      Statement statement;
      statement.line = stream_.current().line;
      if (stream_.Is(Token::Kind::kData)) {
        statement.kind = Kind::kText;
        statement.text = stream_.current().text;
        stream_.Next();
      } else if (stream_.Is(Token::Kind::kPrintBegin)) {
        stream_.Next();
        statement.kind = Kind::kPrint;
        statement.expression = stream_.ParseTuple();
        Expect(Token::Kind::kPrintEnd, "}}");
      } else {
        stream_.Next();  // "{%"
        for (absl::string_view end : ends) {
          if (stream_.IsName(end)) return block;
        }
        ParseTag(&statement);
      }
      block.push_back(std::move(statement));
    }
    if (stream_.ok() && !ends.empty()) stream_.Fail(absl::StrCat("expected {% ", ends[0], " %}"));
    return block;
  }

  void Expect(Token::Kind kind, absl::string_view shown) {
    if (!stream_.Is(kind)) stream_.Fail(absl::StrCat("expected '", shown, "'"));
    stream_.Next();
  }
  void EndTag() { Expect(Token::Kind::kBlockEnd, "%}"); }

  // The body of a tag up to {% end %}, which is consumed.
  Block ParseBody(absl::string_view end) {
    EndTag();
    Block body = ParseBlock({end});
    stream_.Next();
    EndTag();
    return body;
  }

  void ParseTag(Statement* statement) {
    struct Tag {
      absl::string_view name;
      void (TemplateParser::*parse)(Statement*);
    };
    static constexpr Tag kTags[] = {
        {"if", &TemplateParser::ParseIf},       {"for", &TemplateParser::ParseFor},
        {"set", &TemplateParser::ParseSet},     {"macro", &TemplateParser::ParseMacro},
        {"call", &TemplateParser::ParseCall},   {"filter", &TemplateParser::ParseFilterBlock},
        {"with", &TemplateParser::ParseWith},   {"generation", &TemplateParser::ParseGeneration},
        {"break", &TemplateParser::ParseBreak}, {"continue", &TemplateParser::ParseContinue},
    };
    const std::string name = stream_.ExpectName();
    for (const Tag& tag : kTags) {
      if (tag.name == name) return (this->*tag.parse)(statement);
    }
    stream_.Fail(absl::StrCat("unknown tag ", name));
  }

  void ParseIf(Statement* statement) {
    statement->kind = Kind::kIf;
    bool has_condition = true;
    while (stream_.ok()) {
      if (has_condition) statement->conditions.push_back(stream_.ParseTuple(false));
      EndTag();
      statement->branches.push_back(has_condition ? ParseBlock({"endif", "elif", "else"})
                                                  : ParseBlock({"endif"}));
      if (stream_.TakeName("endif")) break;
      has_condition = stream_.TakeName("elif");
      if (!has_condition) stream_.TakeName("else");
    }
    EndTag();
  }

  void ParseFor(Statement* statement) {
    statement->kind = Kind::kFor;
    statement->target = ParseTarget(false);
    if (!stream_.TakeName("in")) stream_.Fail("expected 'in'");
    statement->expression = stream_.ParseTuple(false);
    if (stream_.TakeName("if")) statement->filter = stream_.ParseExpression();
    if (stream_.IsName("recursive")) stream_.Fail("recursive loops are not supported");
    EndTag();
    ++loops_;
    statement->branches.push_back(ParseBlock({"endfor", "else"}));
    --loops_;
    if (stream_.TakeName("else")) {
      EndTag();
      statement->branches.push_back(ParseBlock({"endfor"}));
    }
    stream_.TakeName("endfor");
    EndTag();
  }

  // "a", "a.b" (if allowed), "a, b", "(a, b), c".
  Target ParseTarget(bool attributes) {
    Target first = ParseOneTarget(attributes);
    if (!stream_.IsOperator(",")) return first;
    Target several;
    several.members.push_back(std::move(first));
    while (stream_.ok() && stream_.TakeOperator(",")) {
      if (stream_.IsName("in") || stream_.IsOperator("=")) break;
      several.members.push_back(ParseOneTarget(attributes));
    }
    return several;
  }

  Target ParseOneTarget(bool attributes) {
    const ExpressionParser::Level level(&stream_);
    Target target;
    if (!stream_.ok()) return target;
    if (stream_.TakeOperator("(")) {
      target = ParseTarget(attributes);
      stream_.ExpectOperator(")");
      return target;
    }
    target.name = stream_.ExpectName();
    if (attributes && stream_.TakeOperator(".")) target.attribute = stream_.ExpectName();
    return target;
  }

  void ParseSet(Statement* statement) {
    statement->target = ParseTarget(true);
    if (stream_.TakeOperator("=")) {
      statement->kind = Kind::kSet;
      statement->expression = stream_.ParseTuple();
      return EndTag();
    }
    statement->kind = Kind::kSetBlock;
    if (stream_.TakeOperator("|")) statement->filter = stream_.ParseFilterChain();
    statement->branches.push_back(ParseBody("endset"));
  }

  std::vector<Parameter> ParseParameters() {
    std::vector<Parameter> parameters;
    stream_.ExpectOperator("(");
    while (stream_.ok() && !stream_.TakeOperator(")")) {
      if (!parameters.empty()) {
        stream_.ExpectOperator(",");
        if (stream_.TakeOperator(")")) break;
      }
      Parameter parameter;
      parameter.name = stream_.ExpectName();
      if (stream_.TakeOperator("=")) {
        parameter.default_value = stream_.ParseExpression();
      } else if (!parameters.empty() && parameters.back().default_value != nullptr) {
        stream_.Fail("a parameter without default follows one with");
      }
      parameters.push_back(std::move(parameter));
    }
    return parameters;
  }

  // What stands inside cannot break out of a loop around it.
  Block ParseClosedBody(absl::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Block body = ParseBody(end);
    loops_ = loops;
    return body;
  }

  void ParseMacro(Statement* statement) {
    statement->kind = Kind::kMacro;
    statement->macro = std::make_unique<MacroDefinition>();
    statement->macro->name = stream_.ExpectName();
    statement->macro->parameters = ParseParameters();
    statement->macro->body = ParseClosedBody("endmacro");
  }

  void ParseCall(Statement* statement) {
    statement->kind = Kind::kCallBlock;
    statement->macro = std::make_unique<MacroDefinition>();
    statement->macro->name = "caller";
    if (stream_.IsOperator("(")) statement->macro->parameters = ParseParameters();
    statement->expression = stream_.ParseExpression();
    const bool is_call = stream_.ok() && statement->expression->kind == Expression::Kind::kCall;
    if (!is_call) stream_.Fail("expected a call");
    statement->macro->body = ParseClosedBody("endcall");
  }

  void ParseFilterBlock(Statement* statement) {
    statement->kind = Kind::kFilter;
    statement->filter = stream_.ParseFilterChain();
    statement->branches.push_back(ParseClosedBody("endfilter"));
  }

  void ParseWith(Statement* statement) {
    statement->kind = Kind::kScope;
    while (stream_.ok() && !stream_.Is(Token::Kind::kBlockEnd)) {
      if (!statement->targets.empty()) stream_.ExpectOperator(",");
      statement->targets.push_back(ParseOneTarget(false));
      stream_.ExpectOperator("=");
      statement->conditions.push_back(stream_.ParseExpression());
    }
    statement->branches.push_back(ParseBody("endwith"));
  }

  // {% generation %} marks the assistant's words for training; it prints its body.
  void ParseGeneration(Statement* statement) {
    statement->kind = Kind::kScope;
    statement->branches.push_back(ParseClosedBody("endgeneration"));
  }

  void ParseBreak(Statement* statement) { ParseJump(Kind::kBreak, statement); }
  void ParseContinue(Statement* statement) { ParseJump(Kind::kContinue, statement); }
  void ParseJump(Kind kind, Statement* statement) {
    statement->kind = kind;
    if (loops_ == 0) stream_.Fail("break and continue belong into a loop");
    EndTag();
  }

  ExpressionParser stream_;
  int loops_ = 0;
};

}  // namespace

absl::StatusOr<Block> ParseTemplate(absl::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("must have at most ", kMaxTemplateBytes, " bytes; got ", source.size()));
  }
  absl::StatusOr<std::vector<Token>> tokens = Tokenize(source);
  if (!tokens.ok()) return tokens.status();
  return TemplateParser(*std::move(tokens)).Run();
}

}  // namespace pregate
