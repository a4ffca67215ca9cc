// Value: what expressions of a chat template evaluate to, with Python's meaning of equality, order,
// truth and printing.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_VALUE_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_VALUE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/chat_template/tagged_text.h"

namespace pregate {

class Value;
struct MacroDefinition;
struct Scope;

// Containers deeper than this are refused: it bounds the recursion over a value.
inline constexpr int kMaxValueDepth = 64;
// What a value weighs beside the bytes of strings: about what it takes to print it. A container may
// hold the same value many times, so that its weight, and the time to walk it, can be out of all
// proportion to the memory that it takes.
inline constexpr int64_t kValueWeight = 16;

struct Undefined {
  std::string name;  // for the message when something is asked of it
};
struct None {};

// A list or a tuple. Immutable once it is a value, as in a sandbox.
struct Sequence {
  std::vector<Value> items;
  bool is_tuple = false;
  int depth = 1;                  // of the deepest value inside, plus one
  int64_t weight = kValueWeight;  // of all values inside, and its own
};

// A mapping in order of insertion. Immutable once it is a value.
struct Mapping {
  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;
  int64_t weight = kValueWeight;
  const Value* Find(const Value& key) const;
  const Value* Find(absl::string_view key) const;
  void Set(Value key, Value value);
};

// namespace(): the one thing whose attributes can be assigned.
struct Namespace {
  Mapping attributes;
};

// The `loop` variable.
struct LoopState {
  std::vector<Value> items;
  size_t index = 0;
};

// Something that can be called.
struct Callable {
  enum class Kind : uint8_t { kFunction, kMethod, kMacro };
  Kind kind = Kind::kFunction;
  std::string name;             // of a function or a method
  std::unique_ptr<Value> self;  // of a method
  const MacroDefinition* macro = nullptr;
  std::weak_ptr<Scope> scope;  // where the macro was defined
};

class Value {
 public:
  using StringPtr = std::shared_ptr<const TaggedText>;
  using SequencePtr = std::shared_ptr<const Sequence>;
  using MappingPtr = std::shared_ptr<const Mapping>;
  using NamespacePtr = std::shared_ptr<Namespace>;
  using LoopPtr = std::shared_ptr<LoopState>;
  using CallablePtr = std::shared_ptr<const Callable>;

  Value() : data_(Undefined{}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(None none) : data_(none) {}
  Value(bool truth) : data_(truth) {}
  Value(int64_t number) : data_(number) {}
  Value(double number) : data_(number) {}
  Value(TaggedText text) : data_(std::make_shared<const TaggedText>(std::move(text))) {}
  Value(Sequence sequence);
  Value(Mapping mapping);
  Value(NamespacePtr space) : data_(std::move(space)) {}
  Value(LoopPtr loop) : data_(std::move(loop)) {}
  Value(CallablePtr callable) : data_(std::move(callable)) {}
  Value(const char*) = delete;  // would become a bool
  static Value String(absl::string_view text) { return Value(TaggedText(std::string(text))); }

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&data_);
  }
  bool is_undefined() const { return As<Undefined>() != nullptr; }
  bool is_none() const { return As<None>() != nullptr; }
  bool is_bool() const { return As<bool>() != nullptr; }
  bool is_number() const { return is_bool() || As<int64_t>() != nullptr || is_float(); }
  bool is_float() const { return As<double>() != nullptr; }
  const TaggedText* text() const { return Pointee<StringPtr>(); }
  const Sequence* sequence() const { return Pointee<SequencePtr>(); }
  const Mapping* mapping() const { return Pointee<MappingPtr>(); }
  const Callable* callable() const { return Pointee<CallablePtr>(); }
  Namespace* space() const;
  LoopState* loop() const;

  // The whole number of an int or a bool.
  std::optional<int64_t> integer() const;
  // The number of an int, a bool or a float.
  std::optional<double> number() const;

  bool Truthy() const;
  int depth() const;
  int64_t weight() const;
  // Whether it may be put into a container: not what can be changed, so that nothing can come to
  // hold itself.
  bool Storable() const;
  // Whether a client wrote any byte in it.
  bool HasClientBytes() const;
  // Python's name of its type: "str", "dict", ...
  absl::string_view TypeName() const;
  // Python's str() and repr().
  TaggedText ToText() const;
  std::string Repr() const;

 private:
  template <typename P>
  auto Pointee() const -> decltype(std::declval<P>().get()) {
    const P* pointer = std::get_if<P>(&data_);
    return pointer == nullptr ? nullptr : pointer->get();
  }

  std::variant<Undefined, None, bool, int64_t, double, StringPtr, SequencePtr, MappingPtr,
               NamespacePtr, LoopPtr, CallablePtr>
      data_;
};

// Python's ==.
bool Equal(const Value& a, const Value& b);
// Python's order: negative, 0 or positive; nothing where Python raises TypeError.
std::optional<int> Compare(const Value& a, const Value& b);

// Python's repr of a float: the shortest text that reads back as it.
std::string FloatRepr(double number);
// Python's repr of a string.
std::string StringRepr(absl::string_view text);

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_VALUE_H_
