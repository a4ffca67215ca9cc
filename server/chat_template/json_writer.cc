// `tojson`: the text that Python's json.dumps would give.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/chat_template/evaluation.h"
#include "server/chat_template/unicode_text.h"

namespace pregate {
namespace {

class JsonWriter {
 public:
  JsonWriter(Evaluation* evaluation, const JsonStyle& style)
      : evaluation_(evaluation), style_(style) {}

  void Write(const Value& value) {
    if (!evaluation_->Spend(1)) return;
    if (value.is_none() || value.is_number()) {
      out_ += Scalar(value);
    } else if (const TaggedText* text = value.text()) {
      evaluation_->SpendBytes(text->bytes().size());
      WriteString(text->bytes());
    } else if (const Sequence* sequence = value.sequence()) {
      WriteList(*sequence);
    } else if (const Mapping* mapping = value.mapping()) {
      WriteObject(*mapping);
    } else {
      evaluation_->Fail(absl::StrCat("'", value.TypeName(), "' cannot be written as JSON"));
    }
  }

  std::string Take() { return std::move(out_); }

 private:
  static std::string Scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.Truthy() ? "true" : "false";
    if (!value.is_float()) return value.Repr();
    const double number = *value.number();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return value.Repr();
  }

  void WriteUnit(uint32_t unit) { absl::StrAppendFormat(&out_, "\\u%04x", unit); }

  void WriteString(absl::string_view text) {
    out_ += '"';
    for (size_t at = 0; at < text.size();) {
      const CodePoint point = DecodeCodePoint(text, at);
      constexpr absl::string_view kEscaped = "\"\\\n\r\t\f\b";
      constexpr absl::string_view kLetters = "\"\\nrtfb";
      const size_t escape = point.value < 0x80 ? kEscaped.find(text[at]) : absl::string_view::npos;
      if (escape != absl::string_view::npos) {
        out_ += '\\';
        out_ += kLetters[escape];
      } else if (point.value < 0x20) {
        WriteUnit(point.value);
      } else if (point.value < 0x80 || !style_.ensure_ascii) {
        if (point.value == 0x7F && style_.ensure_ascii) {
          WriteUnit(point.value);
        } else {
          absl::StrAppend(&out_, text.substr(at, point.bytes));
        }
      } else if (point.value < 0x10000) {
        WriteUnit(point.value);
      } else {  // a surrogate pair
        WriteUnit(0xD800 + ((point.value - 0x10000) >> 10));
        WriteUnit(0xDC00 + ((point.value - 0x10000) & 0x3FF));
      }
      at += point.bytes;
    }
    out_ += '"';
  }

  void NewLine() {
    if (!style_.indent.has_value()) return;
    if (!evaluation_->SpendBytes(level_ * style_.indent->size())) return;
    out_ += '\n';
    for (int i = 0; i < level_; ++i) out_ += *style_.indent;
  }

  void WriteList(const Sequence& list) {
    if (list.items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    ++level_;
    for (size_t i = 0; i < list.items.size() && evaluation_->ok(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      NewLine();
      Write(list.items[i]);
    }
    --level_;
    NewLine();
    out_ += ']';
  }

  void WriteObject(const Mapping& object) {
    if (object.entries.empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : object.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) {
        return Compare(a->first, b->first).value_or(0) < 0;
      });
    }
    out_ += '{';
    ++level_;
    for (size_t i = 0; i < entries.size() && evaluation_->ok(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      NewLine();
      const Value& key = entries[i]->first;
      if (key.text() == nullptr && !key.is_number() && !key.is_none()) {
        evaluation_->Fail(absl::StrCat("'", key.TypeName(), "' cannot be a key of JSON"));
        return;
      }
      WriteString(key.text() != nullptr ? key.text()->bytes() : Scalar(key));
      out_ += style_.key_separator;
      Write(entries[i]->second);
    }
    --level_;
    NewLine();
    out_ += '}';
  }

  Evaluation* evaluation_;
  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

std::string WriteJson(Evaluation* evaluation, const Value& value, const JsonStyle& style) {
  JsonWriter writer(evaluation, style);
  writer.Write(value);
  return writer.Take();
}

}  // namespace pregate
