// The syntax tree of a chat template.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_SYNTAX_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_SYNTAX_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/chat_template/value.h"

namespace pregate {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Argument {
  std::string name;  // empty: by position
  ExpressionPtr value;
};

struct Expression {
  enum class Kind : uint8_t {
    kLiteral,      // literal
    kName,         // name
    kAttribute,    // parts[0] . name
    kElement,      // parts[0] [ parts[1] ]
    kSlice,        // parts[0] [ parts[1] : parts[2] : parts[3] ], absent bounds null
    kCall,         // parts[0] ( arguments )
    kFilter,       // parts[0] | name ( arguments ); parts[0] null in a filter block
    kTest,         // parts[0] is name ( arguments )
    kList,         // parts
    kTuple,        // parts
    kDict,         // parts: key, value, key, value, ...
    kChain,        // parts[0] operators[0] parts[1] operators[1] ..., from left to right
    kComparison,   // the same, each operator between its two neighbours
    kAnd,          // parts
    kOr,           // parts
    kNot,          // parts[0]
    kNegate,       // - parts[0]
    kPlus,         // + parts[0]
    kConcatenate,  // parts joined by ~
    kConditional,  // parts[1] if parts[0] else parts[2], which may be null
  };
  Kind kind;
  int height = 1;  // of the tree below; bounded, since walks over it recurse
  std::string name;
  Value literal;
  std::vector<ExpressionPtr> parts;
  std::vector<std::string> operators;
  std::vector<Argument> arguments;
};

struct Statement;
using Block = std::vector<Statement>;

// What an assignment or a loop binds: a name, an attribute of a namespace, or several of them.
struct Target {
  std::string name;
  std::string attribute;        // empty: a plain name
  std::vector<Target> members;  // not empty: unpacking
};

struct Parameter {
  std::string name;
  ExpressionPtr default_value;  // may be null
};

struct MacroDefinition;

struct Statement {
  enum class Kind : uint8_t {
    kText,       // text
    kPrint,      // expression
    kIf,         // conditions[i] -> branches[i]; the last branch may have no condition
    kFor,        // target in expression (if filter): branches[0], else branches[1]
    kSet,        // target = expression
    kSetBlock,   // target = rendered branches[0], through the filters of expression if not null
    kMacro,      // macro
    kCallBlock,  // expression (a call) with `macro` as its caller
    kFilter,     // branches[0] through the filters of expression
    kScope,      // targets[i] = conditions[i] around branches[0] (`with`); also `generation`
    kBreak,
    kContinue,
  };
  Kind kind;
  int line = 0;
  std::string text;
  ExpressionPtr expression;
  ExpressionPtr filter;
  Target target;
  std::vector<Target> targets;
  std::vector<ExpressionPtr> conditions;
  std::vector<Block> branches;
  std::unique_ptr<MacroDefinition> macro;
};

struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  Block body;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_SYNTAX_H_
