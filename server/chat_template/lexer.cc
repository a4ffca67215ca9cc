#include "server/chat_template/lexer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/chat_template/unicode_text.h"

namespace pregate {
namespace {

constexpr absl::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_' || (c & 0x80) != 0; }
bool IsNamePart(char c) { return IsNameStart(c) || absl::ascii_isdigit(c); }

// Appends what the escape at the start of `text` ("\\n", "\\u00e9", ...) means, and returns its
// length. As in Python, an unknown escape stands for itself.
size_t DecodeEscape(absl::string_view text, std::string* out) {
  constexpr absl::string_view kLetters = "abfnrtv\\'\"";
  constexpr absl::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
  const char c = text[1];
  if (const size_t letter = kLetters.find(c); letter != absl::string_view::npos) {
    *out += kMeanings[letter];
    return 2;
  }
  if (c == '\n') return 2;
  size_t digits = c == 'x' ? 2 : (c == 'u' ? 4 : (c == 'U' ? 8 : 0));
  uint32_t value = 0;
  if (digits > 0) {
    const std::string hex(text.substr(2, digits));
    if (hex.size() == digits && std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit)) {
      value = static_cast<uint32_t>(std::stoul(hex, nullptr, 16));
      if (value < 0x110000 && (value < 0xD800 || value > 0xDFFF)) {
        AppendCodePoint(value, out);
        return 2 + digits;
      }
    }
  } else if (c >= '0' && c <= '7') {
    while (digits < 3 && 1 + digits < text.size() && text[1 + digits] >= '0' &&
           text[1 + digits] <= '7') {
      value = value * 8 + static_cast<uint32_t>(text[1 + digits++] - '0');
    }
    AppendCodePoint(value, out);
    return 1 + digits;
  }
  *out += '\\';
  return 1;
}

class Lexer {
 public:
  explicit Lexer(absl::string_view source) : source_(source) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (at_ < source_.size() && error_.ok()) LexText();
    if (!error_.ok()) return error_;
    Emit(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  absl::string_view rest() const { return source_.substr(at_); }
  bool Looking(absl::string_view at) const { return absl::StartsWith(rest(), at); }

  void Fail(absl::string_view what) {
    if (error_.ok())
      error_ = absl::FailedPreconditionError(absl::StrCat("line ", line_, ": ", what));
  }

  void Emit(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  void Advance(size_t bytes) {
    line_ +=
        static_cast<int>(std::count(source_.begin() + at_, source_.begin() + at_ + bytes, '\n'));
    at_ += bytes;
  }

  void SkipSpace() { Advance(rest().size() - Stripped(rest()).size()); }

  static absl::string_view Stripped(absl::string_view text) {
    return text.substr(StripRange(text, nullptr, true, false).begin);
  }

  // Position of the next "{{", "{%" or "{#", or npos.
  size_t FindTag(size_t from) const {
    for (size_t at = source_.find('{', from); at != absl::string_view::npos;
         at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() &&
          absl::string_view("{%#").find(source_[at + 1]) != absl::string_view::npos) {
        return at;
      }
    }
    return absl::string_view::npos;
  }

  // Emits the text before a tag, with its end stripped as the tag's sign asks.
  void EmitData(absl::string_view text, char sign, bool is_print) {
    if (sign == '-') {
      text = text.substr(0, StripRange(text, nullptr, false, true).end);
    } else if (sign != '+' && !is_print) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == absl::string_view::npos ? 0 : newline + 1;
      if ((line > 0 || line_starting_) && Stripped(text.substr(line)).empty()) {
        text = text.substr(0, line);
      }
    }
    if (!text.empty()) Emit(Token::Kind::kData, std::string(text));
  }

  char Sign(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  // Text up to the next tag, and that tag.
  void LexText() {
    const size_t tag = FindTag(at_);
    if (tag == absl::string_view::npos) {
      Emit(Token::Kind::kData, std::string(rest()));
      Advance(rest().size());
      return;
    }
    const char sign = Sign(tag + 2);
    const char kind = source_[tag + 1];
    EmitData(source_.substr(at_, tag - at_), sign, kind == '{');
    Advance(tag - at_ + 2 + (sign != '\0' ? 1 : 0));
    if (kind == '#') {
      LexComment();
    } else if (kind == '{') {
      LexTag(Token::Kind::kPrintBegin);
    } else if (!LexRaw()) {
      LexTag(Token::Kind::kBlockBegin);
    }
  }

  void LexComment() {
    const size_t end = source_.find("#}", at_);
    if (end == absl::string_view::npos) return Fail("a comment has no end");
    const char sign = end > at_ ? Sign(end - 1) : '\0';
    Advance(end + 2 - at_);
    EndBlock(sign);
  }

  // What a block's or a comment's end takes of the text behind it.
  void EndBlock(char sign) {
    if (sign == '-') {
      SkipSpace();
    } else if (sign != '+' && Looking("\n")) {
      Advance(1);
    }
    line_starting_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  // Bytes of "<spaces>word<spaces>%}" at `at`, with the end's sign, or 0 if there is no such tag.
  size_t MatchWordTag(size_t at, absl::string_view word, char* sign) const {
    absl::string_view text = Stripped(source_.substr(at));
    if (!absl::StartsWith(text, word)) return 0;
    text = Stripped(text.substr(word.size()));
    *sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? text[0] : '\0';
    if (*sign != '\0') text.remove_prefix(1);
    if (!absl::StartsWith(text, "%}")) return 0;
    return source_.size() - at - text.size() + 2;
  }

  // After "{%": consumes a whole raw block; false, with nothing consumed, if it is none.
  bool LexRaw() {
    char sign = '\0';
    const size_t head = MatchWordTag(at_, "raw", &sign);
    if (head == 0 || sign == '+') return false;
    Advance(head);
    if (sign == '-') SkipSpace();
    line_starting_ = source_[at_ - 1] == '\n';
    for (size_t tag = source_.find("{%", at_); tag != absl::string_view::npos;
         tag = source_.find("{%", tag + 1)) {
      const char begin_sign = Sign(tag + 2);
      const size_t name = tag + 2 + (begin_sign != '\0' ? 1 : 0);
      const size_t tail = MatchWordTag(name, "endraw", &sign);
      if (tail == 0) continue;
      EmitData(source_.substr(at_, tag - at_), begin_sign, false);
      Advance(name + tail - at_);
      EndBlock(sign);
      return true;
    }
    Fail("a raw block has no end");
    return true;
  }

  void LexTag(Token::Kind begin);
  void LexString(char quote);
  void LexNumber();
  bool LexOperator();

  absl::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::string open_;  // brackets that are open in the present tag
  std::vector<Token> tokens_;
  absl::Status error_;
};

void Lexer::LexTag(Token::Kind begin) {
  const bool is_print = begin == Token::Kind::kPrintBegin;
  const absl::string_view close = is_print ? "}}" : "%}";
  Emit(begin, "");
  open_.clear();
  while (error_.ok()) {
    SkipSpace();
    if (at_ >= source_.size()) return Fail("a tag has no end");
    // Within brackets "}}" closes two of them.
    if (open_.empty()) {
      const char sign = Sign(at_);
      const bool signed_end = sign == '-' || (sign == '+' && !is_print);
      if (Looking(close) || (signed_end && absl::StartsWith(rest().substr(1), close))) {
        const bool plain = Looking(close);
        Emit(is_print ? Token::Kind::kPrintEnd : Token::Kind::kBlockEnd, "");
        Advance(plain ? 2 : 3);
        if (!is_print) return EndBlock(plain ? '\0' : sign);
        if (!plain) SkipSpace();
        line_starting_ = source_[at_ - 1] == '\n';
        return;
      }
    }
    const char c = source_[at_];
    if (c == '\'' || c == '"') {
      LexString(c);
    } else if (absl::ascii_isdigit(c)) {
      LexNumber();
    } else if (IsNameStart(c)) {
      size_t length = 1;
      while (length < rest().size() && IsNamePart(rest()[length])) ++length;
      Emit(Token::Kind::kName, std::string(rest().substr(0, length)));
      Advance(length);
    } else if (!LexOperator()) {
      return Fail(absl::StrCat("unexpected character '", absl::string_view(&c, 1), "'"));
    }
  }
}

bool Lexer::LexOperator() {
  for (absl::string_view op : kOperators) {
    if (!Looking(op)) continue;
    // "}}" never stands for one operator, so one character decides about brackets.
    if (op == "(" || op == "[" || op == "{") open_ += op == "(" ? ')' : (op == "[" ? ']' : '}');
    if (op == ")" || op == "]" || op == "}") {
      if (open_.empty() || open_.back() != op[0]) {
        Fail(absl::StrCat("unexpected '", op, "'"));
        return true;
      }
      open_.pop_back();
    }
    Emit(Token::Kind::kOperator, std::string(op));
    Advance(op.size());
    return true;
  }
  return false;
}

void Lexer::LexNumber() {
  size_t length = 0;
  const auto digits = [&] {
    while (length < rest().size() &&
           (absl::ascii_isdigit(rest()[length]) || (rest()[length] == '_' && length > 0))) {
      ++length;
    }
  };
  const auto digit_at = [&](size_t i) {
    return i < rest().size() && absl::ascii_isdigit(rest()[i]);
  };
  digits();
  bool is_float = false;
  // "a.0.1" reads elements: a number behind a point has no fraction.
  const bool behind_point = at_ > 0 && source_[at_ - 1] == '.';
  if (!behind_point && rest().substr(length, 1) == "." && digit_at(length + 1)) {
    is_float = true;
    ++length;
    digits();
  }
  if (!behind_point && (rest().substr(length, 1) == "e" || rest().substr(length, 1) == "E")) {
    size_t exponent = length + 1;
    if (rest().substr(exponent, 1) == "+" || rest().substr(exponent, 1) == "-") ++exponent;
    if (digit_at(exponent)) {
      is_float = true;
      length = exponent;
      digits();
    }
  }
  Emit(is_float ? Token::Kind::kFloat : Token::Kind::kInteger,
       absl::StrReplaceAll(rest().substr(0, length), {{"_", ""}}));
  Advance(length);
}

void Lexer::LexString(char quote) {
  std::string text;
  size_t i = at_ + 1;
  while (i < source_.size() && source_[i] != quote) {
    if (source_[i] == '\\' && i + 1 < source_.size()) {
      i += DecodeEscape(source_.substr(i), &text);
    } else {
      text += source_[i++];
    }
  }
  if (i >= source_.size()) return Fail("a string has no end");
  Emit(Token::Kind::kString, std::move(text));
  Advance(i + 1 - at_);
}

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source) {
  // One newline at the end of the file is the editor's, not the author's.
  std::string text = absl::StrReplaceAll(source, {{"\r\n", "\n"}, {"\r", "\n"}});
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return Lexer(text).Run();
}

}  // namespace pregate
