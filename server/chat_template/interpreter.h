// Runs the syntax tree of a chat template.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_INTERPRETER_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_INTERPRETER_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/civil_time.h"
#include "server/chat_template/evaluation.h"
#include "server/chat_template/syntax.h"

namespace pregate {

// Variables by name; looked up from the inside out.
struct Scope {
  std::map<std::string, Value> variables;
  std::shared_ptr<Scope> parent;
};

// Calls, tags and expressions that may be open at once.
inline constexpr int kMaxEvaluationDepth = 128;

class Interpreter : public Evaluation {
 public:
  explicit Interpreter(absl::CivilSecond now) : Evaluation(now) {}

  // The text that `block` prints where `variables` are defined.
  absl::StatusOr<TaggedText> Render(const Block& block, std::map<std::string, Value> variables);

  Value Call(const Value& callee, const Arguments& arguments) override;

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  // Counts one more open call, tag or expression while it lives.
  class Level {
   public:
    explicit Level(Interpreter* interpreter);
    ~Level() { --interpreter_->depth_; }

   private:
    Interpreter* interpreter_;
  };
  // Makes a scope the current one while it lives.
  class Enter;

  Flow Run(const Block& block);
  Flow RunStatement(const Statement& statement);
  Flow RunIf(const Statement& statement);
  Flow RunFor(const Statement& statement);
  Flow RunScope(const Statement& statement);
  void RunSetBlock(const Statement& statement);
  void RunCallBlock(const Statement& statement);
  void Print(const TaggedText& text);
  // What `block` prints, in a scope of its own.
  TaggedText Capture(const Block& block);
  void Assign(const Target& target, const Value& value);
  Value MakeMacro(const MacroDefinition& definition);
  Value CallMacro(const Callable& callable, const Arguments& arguments);

  Value Evaluate(const Expression& node);
  Value EvaluateName(const std::string& name);
  Value EvaluateItems(const Expression& node);
  Value EvaluateDict(const Expression& node);
  Value EvaluateSlice(const Expression& node);
  Value EvaluateLogic(const Expression& node);
  Value EvaluateChain(const Expression& node);
  Value EvaluateComparison(const Expression& node);
  Value EvaluateSign(const Expression& node);
  Value EvaluateCall(const Expression& node);
  Value ApplyFilter(const Expression& node, const TaggedText* innermost);
  Value EvaluateTest(const Expression& node);
  Arguments EvaluateArguments(const std::vector<Argument>& arguments);

  std::shared_ptr<Scope> scope_;
  TaggedText output_;
  int depth_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_INTERPRETER_H_
