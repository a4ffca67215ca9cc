#include "engine/tokenizer/text_encoder.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace pregate {

bool WantsSpacePrefix(const TokenizerSpec& spec, std::string_view text, bool begins_text) {
  if (!spec.add_space_prefix) return false;
  if (spec.prefix_first_only && !begins_text) return false;
  return !spec.prefix_unless_space || !(text.starts_with(" ") || text.starts_with(kVisibleSpace));
}

std::string NfcNormalize(std::string_view text) {
  // No character below U+0300 (lead byte 0xCC) composes with another below it.
  const bool composed =
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0xCC; });
  if (composed) return std::string(text);
  utf8proc_uint8_t* normalized = nullptr;
  const utf8proc_ssize_t bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), text.size(), &normalized,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(normalized, std::free);
  // Valid UTF-8 fails only for want of memory.
  if (bytes < 0) return std::string(text);
  return std::string(reinterpret_cast<const char*>(normalized), bytes);
}

}  // namespace pregate
