#include "server/chat_template/evaluation.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/chat_template/text_operations.h"
#include "server/chat_template/unicode_text.h"

namespace pregate {
namespace {

constexpr int64_t kStepsPerTimeCheck = 64;

// What this thread has used. Unlike the time of day it stands still while others run, so that a
// busy machine does not refuse what an idle one renders.
absl::Duration ThreadTime() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return absl::DurationFromTimespec(time);
}

}  // namespace

Evaluation::Evaluation(absl::CivilSecond now)
    : next_time_check_(kMaxRenderSteps - kStepsPerTimeCheck),
      deadline_(ThreadTime() + kMaxRenderTime),
      now_(now) {}

Value Evaluation::Fail(absl::string_view what) {
  if (ok()) {
    error_ = absl::InvalidArgumentError(absl::StrCat("chat template: line ", line_, ": ", what));
  }
  return Value();
}

void Evaluation::Raise(absl::string_view message) {
  if (ok()) error_ = absl::InvalidArgumentError(message);
}

void Evaluation::OverBudget(absl::string_view rule) {
  if (ok()) {
    error_ =
        absl::FailedPreconditionError(absl::StrCat("chat template: line ", line_, ": must ", rule));
  }
}

bool Evaluation::Spend(int64_t steps) {
  steps_left_ -= std::min(steps, kMaxRenderSteps + 1);
  if (steps_left_ < 0) {
    steps_left_ = -1;
    OverBudget(absl::StrCat("render within ", kMaxRenderSteps, " steps"));
  } else if (steps_left_ <= next_time_check_) {
    CheckTime();
  }
  return ok();
}

void Evaluation::CheckTime() {
  next_time_check_ = steps_left_ - kStepsPerTimeCheck;
  if (ThreadTime() > deadline_) {
    OverBudget(absl::StrCat("render within ", absl::FormatDuration(kMaxRenderTime)));
  }
}

void Evaluation::CheckContainer(int depth, int64_t weight) {
  if (depth >= kMaxValueDepth) Fail("values nested too deeply");
  if (weight > kMaxValueWeight) {
    OverBudget(absl::StrCat("keep lists and dicts below ", kMaxValueWeight, " bytes"));
  }
}

Value Evaluation::MakeText(TaggedText text) {
  if (text.bytes().size() > kMaxRenderedBytes) {
    OverBudget(absl::StrCat("render at most ", kMaxRenderedBytes, " bytes"));
    return Value();
  }
  SpendBytes(text.bytes().size() + sizeof(TaggedText::Range) * text.client_ranges().size());
  return Value(std::move(text));
}

Value Evaluation::MakeSequence(std::vector<Value> items, bool is_tuple) {
  int depth = 0;
  int64_t weight = 0;
  for (const Value& item : items) {
    depth = std::max(depth, item.depth());
    weight += item.weight();
    if (!item.Storable()) {
      return Fail(absl::StrCat("a ", item.TypeName(), " cannot be put into a list"));
    }
  }
  CheckContainer(depth, weight);
  if (!Spend(static_cast<int64_t>(items.size() / 8))) return Value();
  return Value(Sequence{std::move(items), is_tuple});
}

Value Evaluation::MakeMapping(Mapping mapping) {
  int depth = 0;
  int64_t weight = 0;
  for (const auto& [key, value] : mapping.entries) {
    if (!key.Storable() || !value.Storable()) {
      return Fail(absl::StrCat("a ", value.TypeName(), " cannot be put into a dict"));
    }
    depth = std::max({depth, key.depth(), value.depth()});
    weight += key.weight() + value.weight();
  }
  CheckContainer(depth, weight);
  if (!Spend(static_cast<int64_t>(mapping.entries.size() / 8))) return Value();
  return Value(std::move(mapping));
}

TaggedText Evaluation::ToText(const Value& value) {
  if (!SpendWeight(value)) return TaggedText();
  return value.ToText();
}

bool Evaluation::SpendWeight(const Value& value) {
  const int64_t weight = value.weight();
  CheckContainer(0, weight - kValueWeight);  // a string alone may be as long
  return SpendBytes(static_cast<size_t>(weight));
}

std::vector<Value> Evaluation::Items(const Value& value) {
  std::vector<Value> items;
  if (const Sequence* sequence = value.sequence()) {
    items = sequence->items;
  } else if (const Mapping* mapping = value.mapping()) {
    for (const auto& [key, unused] : mapping->entries) items.push_back(key);
  } else if (const TaggedText* text = value.text()) {
    if (!Spend(static_cast<int64_t>(text->bytes().size() / 8))) return items;
    const std::vector<size_t> offsets = CodePointOffsets(text->bytes());
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      items.emplace_back(TaggedText(text->bytes().substr(offsets[i], offsets[i + 1] - offsets[i]),
                                    text->has_client_bytes()));
    }
  } else if (!value.is_undefined()) {
    Fail(absl::StrCat("'", value.TypeName(), "' is not iterable"));
  }
  Spend(static_cast<int64_t>(items.size() / 8));
  return items;
}

std::optional<int64_t> Evaluation::Length(const Value& value) {
  if (value.is_undefined()) return 0;
  if (const TaggedText* text = value.text()) {
    SpendBytes(text->bytes().size());
    return CountCodePoints(text->bytes());
  }
  if (const Sequence* sequence = value.sequence()) return sequence->items.size();
  if (const Mapping* mapping = value.mapping()) return mapping->entries.size();
  Fail(absl::StrCat("'", value.TypeName(), "' has no length"));
  return std::nullopt;
}

namespace {

Value LoopAttribute(const Value& value, absl::string_view name) {
  const LoopState& loop = *value.loop();
  const int64_t index = static_cast<int64_t>(loop.index);
  const int64_t length = static_cast<int64_t>(loop.items.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(length - index);
  if (name == "revindex0") return Value(length - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == length);
  if (name == "length") return Value(length);
  // How deep a recursive loop is; there are none.
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem" && index > 0) return loop.items[index - 1];
  if (name == "nextitem" && index + 1 < length) return loop.items[index + 1];
  return Value(Undefined{std::string(name)});
}

Value BoundMethod(const Value& self, absl::string_view name) {
  auto callable = std::make_shared<Callable>();
  callable->kind = Callable::Kind::kMethod;
  callable->name = std::string(name);
  callable->self = std::make_unique<Value>(self);
  return Value(Value::CallablePtr(std::move(callable)));
}

}  // namespace

Value Evaluation::Attribute(const Value& value, absl::string_view name) {
  if (const Undefined* undefined = value.As<Undefined>()) {
    return Fail(absl::StrCat("'", undefined->name, "' is undefined"));
  }
  if (FindMethod(value, name) != nullptr) return BoundMethod(value, name);
  if (value.loop() != nullptr) return LoopAttribute(value, name);
  const Mapping* mapping = value.mapping();
  if (value.space() != nullptr) mapping = &value.space()->attributes;
  if (mapping != nullptr) {
    Spend(static_cast<int64_t>(mapping->entries.size() / 16));
    if (const Value* found = mapping->Find(name)) return *found;
  }
  return Value(Undefined{std::string(name)});
}

Value Evaluation::Element(const Value& value, const Value& key) {
  if (const Undefined* undefined = value.As<Undefined>()) {
    return Fail(absl::StrCat("'", undefined->name, "' is undefined"));
  }
  if (const Mapping* mapping = value.mapping()) {
    Spend(static_cast<int64_t>(mapping->entries.size() / 16));
    if (const Value* found = mapping->Find(key)) return *found;
  }
  const std::optional<int64_t> index = key.integer();
  if (index.has_value() && (value.sequence() != nullptr || value.text() != nullptr)) {
    const int64_t length = *Length(value);
    const int64_t at = *index < 0 ? *index + length : *index;
    if (at < 0 || at >= length) return Value(Undefined{absl::StrCat(*index)});
    if (value.sequence() != nullptr) return value.sequence()->items[at];
    const std::vector<size_t> offsets = CodePointOffsets(value.text()->bytes());
    return Value(value.text()->Slice(offsets[at], offsets[at + 1]));
  }
  if (key.text() != nullptr) return Attribute(value, key.text()->bytes());
  return Value(Undefined{key.is_number() ? key.Repr() : std::string(key.TypeName())});
}

Value Evaluation::Slice(const Value& value, const Value& start, const Value& stop,
                        const Value& step) {
  if (value.is_undefined()) return Attribute(value, "slice");
  if (value.sequence() == nullptr && value.text() == nullptr) {
    return Value(Undefined{"slice"});
  }
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->is_none() && !bound->integer().has_value()) return Value(Undefined{"slice"});
  }
  const int64_t stride = step.is_none() ? 1 : *step.integer();
  if (stride == 0) return Fail("slice step cannot be zero");
  const int64_t length = *Length(value);
  const auto clamp = [&](const Value& bound, int64_t absent) {
    if (bound.is_none()) return absent;
    const int64_t at = *bound.integer();
    const int64_t low = stride > 0 ? 0 : -1;
    const int64_t high = stride > 0 ? length : length - 1;
    return std::clamp(at < 0 ? at + length : at, low, high);
  };
  const int64_t from = clamp(start, stride > 0 ? 0 : length - 1);
  const int64_t to = clamp(stop, stride > 0 ? length : -1);
  std::vector<int64_t> picks;
  // Written without adding to a position that may be near the limit of the type.
  for (int64_t at = from; stride > 0 ? at < to : at > to;) {
    picks.push_back(at);
    const int64_t left = stride > 0 ? to - at : at - to;
    if (stride > 0 ? stride >= left : -left >= stride) break;
    at += stride;
  }
  if (!Spend(static_cast<int64_t>(picks.size() / 8))) return Value();
  if (const Sequence* sequence = value.sequence()) {
    std::vector<Value> items;
    for (int64_t at : picks) items.push_back(sequence->items[at]);
    return MakeSequence(std::move(items), sequence->is_tuple);
  }
  const TaggedText& text = *value.text();
  const std::vector<size_t> offsets = CodePointOffsets(text.bytes());
  if (stride == 1) {
    if (picks.empty()) return Value(TaggedText());
    return MakeText(text.Slice(offsets[picks.front()], offsets[picks.back() + 1]));
  }
  std::string picked;
  for (int64_t at : picks) {
    picked.append(text.bytes(), offsets[at], offsets[at + 1] - offsets[at]);
  }
  return MakeText(std::move(picked), text.has_client_bytes());
}

bool Evaluation::Contains(const Value& container, const Value& item) {
  if (const TaggedText* text = container.text()) {
    if (item.text() == nullptr) {
      Fail(absl::StrCat("'in' needs a string on its left, not ", item.TypeName()));
      return false;
    }
    SpendBytes(text->bytes().size() + item.text()->bytes().size());
    return FindText(text->bytes(), item.text()->bytes()) != absl::string_view::npos;
  }
  if (const Sequence* sequence = container.sequence()) {
    if (!SpendWeight(container)) return false;
    return std::any_of(sequence->items.begin(), sequence->items.end(),
                       [&](const Value& found) { return Equal(found, item); });
  }
  if (const Mapping* mapping = container.mapping()) {
    if (!SpendWeight(container)) return false;
    return mapping->Find(item) != nullptr;
  }
  if (!container.is_undefined()) {
    Fail(absl::StrCat("'in' cannot look into ", container.TypeName()));
  }
  return false;
}

bool Evaluation::CompareWith(absl::string_view op, const Value& a, const Value& b) {
  if (op != "in" && op != "not in" && !SpendWeight(a.weight() < b.weight() ? a : b)) return false;
  if (op == "==") return Equal(a, b);
  if (op == "!=") return !Equal(a, b);
  if (op == "in") return Contains(b, a);
  if (op == "not in") return !Contains(b, a);
  for (const Value* operand : {&a, &b}) {
    if (operand->is_undefined()) Attribute(*operand, op);  // fails
  }
  const std::optional<int> order = Compare(a, b);
  if (!order.has_value()) {
    Fail(absl::StrCat("'", op, "' cannot order ", a.TypeName(), " and ", b.TypeName()));
    return false;
  }
  if (op == "<") return *order < 0;
  if (op == "<=") return *order <= 0;
  if (op == ">") return *order > 0;
  return *order >= 0;
}

Value Evaluation::AttributePath(const Value& value, const Value& path) {
  if (path.text() == nullptr) return Element(value, path);
  Value found = value;
  for (absl::string_view part : absl::StrSplit(path.text()->bytes(), '.')) {
    int64_t index = 0;
    const bool is_index = !part.empty() && absl::SimpleAtoi(part, &index) && part[0] != '-';
    found = Element(found, is_index ? Value(index) : Value::String(part));
    if (!ok()) break;
  }
  return found;
}

std::vector<Value> Evaluation::Sorted(std::vector<Value> items, const Value* path,
                                      bool case_sensitive, bool reverse) {
  struct Keyed {
    Value key;
    Value item;
  };
  std::vector<Keyed> keyed;
  for (Value& item : items) {
    Value key = path == nullptr ? item : AttributePath(item, *path);
    // Each key is compared with many others.
    if (!Spend(1 + key.weight() / 16)) return {};
    if (!case_sensitive && key.text() != nullptr) {
      key = MakeText(ToLower(key.text()->bytes()), false);
    }
    keyed.push_back({std::move(key), std::move(item)});
  }
  // Checked before, since a sort must not meet values without an order.
  for (size_t i = 1; i < keyed.size(); ++i) {
    if (!Compare(keyed[0].key, keyed[i].key).has_value()) {
      Fail(
          absl::StrCat("cannot order ", keyed[0].key.TypeName(), " and ", keyed[i].key.TypeName()));
    }
  }
  if (!ok()) return {};
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    const int order = Compare(a.key, b.key).value_or(0);
    return reverse ? order > 0 : order < 0;
  });
  std::vector<Value> sorted;
  for (Keyed& entry : keyed) sorted.push_back(std::move(entry.item));
  return sorted;
}

}  // namespace pregate
