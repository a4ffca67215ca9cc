#ifndef PREGATE_ENGINE_TOKENIZER_UNICODE_CLASSES_H_
#define PREGATE_ENGINE_TOKENIZER_UNICODE_CLASSES_H_

namespace pregate {

// Unicode's property White_Space.
inline bool IsWhiteSpace(char32_t c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_UNICODE_CLASSES_H_
