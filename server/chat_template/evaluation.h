// Evaluation: one rendering's budget, its first error, and the helpers that built-ins share.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_EVALUATION_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_EVALUATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "server/chat_template/builtins.h"
#include "server/chat_template/value.h"

namespace pregate {

// What one rendering may cost.
inline constexpr int64_t kMaxRenderSteps = 1'000'000;
inline constexpr absl::Duration kMaxRenderTime = absl::Milliseconds(50);  // of its thread
inline constexpr size_t kMaxRenderedBytes = 8 << 20;
// The weight that a container may have, and a value that is printed.
inline constexpr int64_t kMaxValueWeight = 8 << 20;
// Bytes built or searched that count as one step.
inline constexpr size_t kBytesPerStep = 256;
inline constexpr int64_t kMaxRangeLength = 100'000;

// Errors are sticky: after the first one every operation gives undefined values and loops end, so
// that code in between needs no checks.
class Evaluation {
 public:
  explicit Evaluation(absl::CivilSecond now);
  virtual ~Evaluation() = default;

  const absl::Status& error() const { return error_; }
  bool ok() const { return error_.ok(); }
  // The template or what it was given is wrong: INVALID_ARGUMENT "chat template: line N: ...".
  Value Fail(absl::string_view what);
  // The template's own raise_exception.
  void Raise(absl::string_view message);
  void set_line(int line) { line_ = line; }
  absl::CivilSecond now() const { return now_; }

  // Spends steps; false (and an error) when the budget is spent. To be called before work that
  // takes more than the time of a few steps.
  bool Spend(int64_t steps);
  bool SpendBytes(size_t bytes) { return Spend(static_cast<int64_t>(bytes / kBytesPerStep)); }
  // For a walk over all that is in `value`; fails also if that is too much for any walk.
  bool SpendWeight(const Value& value);

  // Values, checked against the bounds on size, weight and depth.
  Value MakeText(TaggedText text);
  // Text made from `sources`: the client's if any of them is.
  Value MakeText(std::string text, bool from_client) {
    return MakeText(TaggedText(std::move(text), from_client));
  }
  Value MakeSequence(std::vector<Value> items, bool is_tuple = false);
  Value MakeMapping(Mapping mapping);

  // Python's operations.
  TaggedText ToText(const Value& value);
  // The elements that a loop visits. TypeError fails.
  std::vector<Value> Items(const Value& value);
  std::optional<int64_t> Length(const Value& value);
  Value Attribute(const Value& value, absl::string_view name);
  Value Element(const Value& value, const Value& key);
  Value Slice(const Value& value, const Value& start, const Value& stop, const Value& step);
  bool Contains(const Value& container, const Value& item);
  Value Binary(absl::string_view op, const Value& a, const Value& b);
  bool CompareWith(absl::string_view op, const Value& a, const Value& b);
  // "a.b.0" as filters take it.
  Value AttributePath(const Value& value, const Value& path);
  std::vector<Value> Sorted(std::vector<Value> items, const Value* path, bool case_sensitive,
                            bool reverse);

  // Arguments of a built-in, with their defaults. A wrong type fails.
  int64_t IntegerArgument(const Arguments& arguments, size_t position, absl::string_view name,
                          int64_t default_value);
  bool BoolArgument(const Arguments& arguments, size_t position, absl::string_view name,
                    bool default_value);
  TaggedText TextArgument(const Arguments& arguments, size_t position, absl::string_view name,
                          absl::string_view default_value);

  virtual Value Call(const Value& callee, const Arguments& arguments) = 0;

 private:
  Value Arithmetic(absl::string_view op, const Value& a, const Value& b);
  Value IntegerArithmetic(absl::string_view op, int64_t a, int64_t b);
  Value FloatArithmetic(absl::string_view op, double a, double b);
  Value Repeat(const Value& value, int64_t times);

  void OverBudget(absl::string_view rule);
  void CheckTime();
  // Fails if a container of such values cannot be.
  void CheckContainer(int depth, int64_t weight);

  absl::Status error_;
  int line_ = 0;
  int64_t steps_left_ = kMaxRenderSteps;
  int64_t next_time_check_;  // when so many steps are left
  const absl::Duration deadline_;
  const absl::CivilSecond now_;
};

// json.dumps of `value`, as `tojson` writes it. Fails on what JSON cannot say.
struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;  // absent: one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
std::string WriteJson(Evaluation* evaluation, const Value& value, const JsonStyle& style);

// "%s and %d" % values.
Value FormatPercent(Evaluation* evaluation, const TaggedText& format,
                    const std::vector<Value>& values);

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_EVALUATION_H_
