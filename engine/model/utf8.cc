#include "engine/model/utf8.h"

#include <cstddef>
#include <cstdint>

namespace pregate {
namespace {

// The length that a first byte announces and the bounds of the byte after it (RFC 3629 section 4);
// every further byte is 80..BF.
struct Lead {
  size_t length;
  uint8_t second_min;
  uint8_t second_max;
};

Lead ReadLead(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Lead lead = ReadLead(static_cast<uint8_t>(text[i]));
    if (lead.length == 0 || text.size() - i < lead.length) return false;
    for (size_t k = 1; k < lead.length; ++k) {
      const auto byte = static_cast<uint8_t>(text[i + k]);
      const uint8_t min = k == 1 ? lead.second_min : 0x80;
      const uint8_t max = k == 1 ? lead.second_max : 0xBF;
      if (byte < min || byte > max) return false;
    }
    i += lead.length;
  }
  return true;
}

}  // namespace pregate
