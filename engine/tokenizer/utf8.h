// UTF-8 by the rules of the Unicode Standard, chapter 3 (table 3-7 and "maximal subpart" practice).
#ifndef PREGATE_ENGINE_TOKENIZER_UTF8_H_
#define PREGATE_ENGINE_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pregate {

// U+FFFD, what stands for bytes that form no character.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

struct Utf8Step {
  enum class Kind : uint8_t {
    kCharacter,
    kBroken,  // the longest beginning of a character that no byte can complete, or one stray byte
    kCut,     // the text ends inside of what may still become a character
  };
  Kind kind;
  size_t bytes;  // at least 1
};

// What `text` (not empty) begins with.
Utf8Step NextUtf8(std::string_view text);

// Bytes of the longest prefix of `text` that is whole, valid characters.
size_t ValidUtf8Prefix(std::string_view text);

// Calls `on_valid(std::string_view)` for each longest valid stretch of `text` and
// `on_byte(uint8_t)` for each byte between them.
template <typename OnValid, typename OnByte>
void ForEachUtf8Stretch(std::string_view text, OnValid&& on_valid, OnByte&& on_byte) {
  while (!text.empty()) {
    const size_t valid = ValidUtf8Prefix(text);
    if (valid > 0) on_valid(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) return;
    const size_t broken = NextUtf8(text).bytes;
    for (size_t i = 0; i < broken; ++i) on_byte(static_cast<uint8_t>(text[i]));
    text.remove_prefix(broken);
  }
}

// Appends `bytes` to `out` with U+FFFD for each broken part, up to a character that is still cut at
// the end. Returns how many bytes it took: all but that cut end.
size_t AppendWholeCharacters(std::string_view bytes, std::string* out);

// Code point of the character at the start of `text`, and its bytes. `text` must be valid.
std::pair<char32_t, size_t> DecodeUtf8(std::string_view text);

void AppendUtf8(char32_t code_point, std::string* out);

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_UTF8_H_
