#include "engine/tokenizer/text_encoder.h"

namespace pregate {

bool WantsSpacePrefix(const TokenizerSpec& spec, std::string_view text, bool begins_text) {
  if (!spec.add_space_prefix) return false;
  if (spec.prefix_first_only && !begins_text) return false;
  return !spec.prefix_unless_space || !(text.starts_with(" ") || text.starts_with(kVisibleSpace));
}

}  // namespace pregate
