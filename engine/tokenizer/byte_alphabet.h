// The byte-level alphabet of GPT-2: every byte as one printable character.
#ifndef PREGATE_ENGINE_TOKENIZER_BYTE_ALPHABET_H_
#define PREGATE_ENGINE_TOKENIZER_BYTE_ALPHABET_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/tokenizer/utf8.h"

namespace pregate {

// Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, are U+0100 and
// the characters after it (encoder.py of GPT-2).
class ByteAlphabet {
 public:
  static constexpr int kCharacters = 0x100 + 68;

  ByteAlphabet() {
    bytes_.fill(-1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      characters_[byte] = printable ? byte : next++;
      bytes_[characters_[byte]] = byte;
    }
  }

  std::string Spell(uint8_t byte) const {
    std::string spelling;
    AppendUtf8(characters_[byte], &spelling);
    return spelling;
  }

  // Appends the bytes that `spelling` (valid UTF-8) stands for. False, and nothing appended, when a
  // character is not of the alphabet.
  bool AppendBytes(std::string_view spelling, std::string* out) const {
    const size_t before = out->size();
    while (!spelling.empty()) {
      const auto [code_point, length] = DecodeUtf8(spelling);
      if (code_point >= kCharacters || bytes_[code_point] < 0) {
        out->resize(before);
        return false;
      }
      out->push_back(static_cast<char>(bytes_[code_point]));
      spelling.remove_prefix(length);
    }
    return true;
  }

 private:
  std::array<int, 256> characters_;
  std::array<int, kCharacters> bytes_;  // -1: no byte
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_BYTE_ALPHABET_H_
