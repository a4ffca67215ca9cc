#include "server/generation/chat_prompt.h"

namespace pregate {

std::vector<int32_t> EncodeSegments(const Tokenizer& tokenizer,
                                    absl::Span<const RenderedSegment> segments,
                                    bool parse_special) {
  std::vector<Tokenizer::TextPart> parts;
  for (const RenderedSegment& segment : segments) {
    parts.push_back({segment.text, parse_special || !segment.from_client});
  }
  return tokenizer.EncodeParts(parts, /*add_special=*/false);
}

}  // namespace pregate
