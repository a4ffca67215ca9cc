#include "engine/tokenizer/utf8.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace pregate {
namespace {

// What a lead byte promises: the whole length and the range of the second byte.
struct Lead {
  size_t bytes;  // 0: no lead byte
  uint8_t second_min, second_max;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};  // shorter forms excluded
  if (byte == 0xED) return {3, 0x80, 0x9F};  // surrogates excluded
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};  // up to U+10FFFF
  return {0, 0, 0};
}

}  // namespace

Utf8Step NextUtf8(std::string_view text) {
  assert(!text.empty());
  const Lead lead = LeadOf(static_cast<uint8_t>(text[0]));
  if (lead.bytes == 0) return {Utf8Step::Kind::kBroken, 1};
  for (size_t i = 1; i < lead.bytes; ++i) {
    if (i == text.size()) return {Utf8Step::Kind::kCut, i};
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) return {Utf8Step::Kind::kBroken, i};
  }
  return {Utf8Step::Kind::kCharacter, lead.bytes};
}

size_t ValidUtf8Prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight;
    if (at + sizeof(eight) <= text.size()) {
      std::memcpy(&eight, text.data() + at, sizeof(eight));
      if ((eight & 0x8080808080808080u) == 0) {
        at += sizeof(eight);
        continue;
      }
    }
    const Utf8Step step = NextUtf8(text.substr(at));
    if (step.kind != Utf8Step::Kind::kCharacter) break;
    at += step.bytes;
  }
  return at;
}

size_t AppendWholeCharacters(std::string_view bytes, std::string* out) {
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t valid = ValidUtf8Prefix(bytes.substr(at));
    out->append(bytes, at, valid);
    at += valid;
    if (at == bytes.size()) break;
    const Utf8Step step = NextUtf8(bytes.substr(at));
    if (step.kind == Utf8Step::Kind::kCut) break;
    out->append(kReplacementCharacter);
    at += step.bytes;
  }
  return at;
}

std::pair<char32_t, size_t> DecodeUtf8(std::string_view text) {
  const size_t bytes = LeadOf(static_cast<uint8_t>(text[0])).bytes;
  assert(bytes > 0 && bytes <= text.size());
  if (bytes == 1) return {static_cast<uint8_t>(text[0]), 1};
  char32_t code_point = static_cast<uint8_t>(text[0]) & (0x7F >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    code_point = code_point << 6 | (static_cast<uint8_t>(text[i]) & 0x3F);
  }
  return {code_point, bytes};
}

void AppendUtf8(char32_t code_point, std::string* out) {
  if (code_point < 0x80) {
    out->push_back(static_cast<char>(code_point));
    return;
  }
  const int continuation_bytes = code_point < 0x800 ? 1 : code_point < 0x10000 ? 2 : 3;
  const int lead_mark = 0xF00 >> (continuation_bytes + 1) & 0xF0;
  out->push_back(static_cast<char>(lead_mark | code_point >> 6 * continuation_bytes));
  for (int i = continuation_bytes - 1; i >= 0; --i) {
    out->push_back(static_cast<char>(0x80 | (code_point >> 6 * i & 0x3F)));
  }
}

}  // namespace pregate
