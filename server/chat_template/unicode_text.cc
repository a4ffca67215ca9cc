#include "server/chat_template/unicode_text.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

namespace pregate {
namespace {

icu::UnicodeString FromUtf8(absl::string_view text) {
  return icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

std::string ToUtf8(const icu::UnicodeString& text) {
  std::string utf8;
  text.toUTF8String(utf8);
  return utf8;
}

bool IsCased(uint32_t value) {
  return u_hasBinaryProperty(static_cast<UChar32>(value), UCHAR_CASED) != 0;
}

// One character in title case ("ǆ" to "ǅ", "ß" to "Ss").
std::string TitleCharacter(absl::string_view character) {
  return ToUtf8(FromUtf8(character).toTitle(nullptr, icu::Locale::getRoot(),
                                            U_TITLECASE_NO_BREAK_ADJUSTMENT));
}

}  // namespace

CodePoint DecodeCodePoint(absl::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint32_t lead = byte(at);
  if (lead < 0x80) return {lead, 1};
  const size_t length = lead >= 0xF0 ? 4 : (lead >= 0xE0 ? 3 : 2);
  if (lead < 0xC2 || lead > 0xF4 || at + length > text.size()) return {lead, 1};
  uint32_t value = lead & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return {lead, 1};
    value = value << 6 | (byte(at + i) & 0x3F);
  }
  return {value, length};
}

void AppendCodePoint(uint32_t value, std::string* text) {
  if (value < 0x80) {
    text->push_back(static_cast<char>(value));
    return;
  }
  const int continuation = value < 0x800 ? 1 : (value < 0x10000 ? 2 : 3);
  constexpr uint8_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  text->push_back(static_cast<char>(kLead[continuation] | value >> (6 * continuation)));
  for (int i = continuation - 1; i >= 0; --i) {
    text->push_back(static_cast<char>(0x80 | (value >> (6 * i) & 0x3F)));
  }
}

std::vector<size_t> CodePointOffsets(absl::string_view text) {
  std::vector<size_t> offsets;
  for (size_t at = 0; at < text.size(); at += DecodeCodePoint(text, at).bytes) {
    offsets.push_back(at);
  }
  offsets.push_back(text.size());
  return offsets;
}

size_t CountCodePoints(absl::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); at += DecodeCodePoint(text, at).bytes) ++count;
  return count;
}

bool IsSpace(uint32_t value) {
  return (value >= 0x09 && value <= 0x0D) || (value >= 0x1C && value <= 0x20) || value == 0x85 ||
         value == 0xA0 || value == 0x1680 || (value >= 0x2000 && value <= 0x200A) ||
         value == 0x2028 || value == 0x2029 || value == 0x202F || value == 0x205F ||
         value == 0x3000;
}

bool IsPrintable(uint32_t value) {
  if (value == ' ') return true;
  const uint32_t hidden = U_GC_C_MASK | U_GC_Z_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(value)) & hidden) == 0;
}

bool IsAlpha(uint32_t value) {
  return (U_GET_GC_MASK(static_cast<UChar32>(value)) & U_GC_L_MASK) != 0;
}

bool IsDigit(uint32_t value) {
  const int type = u_getIntPropertyValue(static_cast<UChar32>(value), UCHAR_NUMERIC_TYPE);
  return type == U_NT_DECIMAL || type == U_NT_DIGIT;
}

std::string ToUpper(absl::string_view text) {
  return ToUtf8(FromUtf8(text).toUpper(icu::Locale::getRoot()));
}

std::string ToLower(absl::string_view text) {
  return ToUtf8(FromUtf8(text).toLower(icu::Locale::getRoot()));
}

std::string ToTitle(absl::string_view text) {
  std::string title;
  bool after_letter = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = DecodeCodePoint(text, at);
    const absl::string_view character = text.substr(at, point.bytes);
    title += after_letter ? ToLower(character) : TitleCharacter(character);
    after_letter = IsCased(point.value);
    at += point.bytes;
  }
  return title;
}

std::string Capitalize(absl::string_view text) {
  if (text.empty()) return "";
  const size_t first = DecodeCodePoint(text, 0).bytes;
  return TitleCharacter(text.substr(0, first)) + ToLower(text.substr(first));
}

ByteRange StripRange(absl::string_view text, const absl::string_view* chars, bool left,
                     bool right) {
  const auto strips = [&](size_t at, const CodePoint& point) {
    if (chars == nullptr) return IsSpace(point.value);
    for (size_t i = 0; i < chars->size();) {
      const size_t bytes = DecodeCodePoint(*chars, i).bytes;
      if (chars->substr(i, bytes) == text.substr(at, point.bytes)) return true;
      i += bytes;
    }
    return false;
  };
  size_t begin = 0;
  size_t end = text.size();
  while (left && begin < end) {
    const CodePoint point = DecodeCodePoint(text, begin);
    if (!strips(begin, point)) break;
    begin += point.bytes;
  }
  while (right && begin < end) {
    size_t at = end - 1;
    while (at > begin && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
    const CodePoint point = DecodeCodePoint(text, at);
    if (at + point.bytes != end || !strips(at, point)) break;
    end = at;
  }
  return {begin, end};
}

}  // namespace pregate
