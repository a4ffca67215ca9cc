// Strings as sequences of Unicode code points, with Python's meaning of space, case and print.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_UNICODE_TEXT_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_UNICODE_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pregate {

struct CodePoint {
  uint32_t value;
  size_t bytes;  // 1 to 4
};

// The code point at byte `at` < text.size(). A byte that starts none counts as one of its own.
CodePoint DecodeCodePoint(absl::string_view text, size_t at);
void AppendCodePoint(uint32_t value, std::string* text);

// Byte offsets of all code points, and text.size() after the last.
std::vector<size_t> CodePointOffsets(absl::string_view text);
size_t CountCodePoints(absl::string_view text);

bool IsSpace(uint32_t value);      // str.isspace
bool IsPrintable(uint32_t value);  // str.isprintable
bool IsAlpha(uint32_t value);      // str.isalpha
bool IsDigit(uint32_t value);      // str.isdigit

std::string ToUpper(absl::string_view text);
std::string ToLower(absl::string_view text);
// str.title(): letters after a letter in lower case, others in title case.
std::string ToTitle(absl::string_view text);
// str.capitalize(): the first in title case, the rest in lower case.
std::string Capitalize(absl::string_view text);

// The bytes [begin, end) that remain when spaces, or the code points of `chars` if not null, are
// stripped from the sides.
struct ByteRange {
  size_t begin;
  size_t end;
};
ByteRange StripRange(absl::string_view text, const absl::string_view* chars, bool left, bool right);

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_UNICODE_TEXT_H_
