// From a rendered conversation to token ids.
#ifndef PREGATE_SERVER_GENERATION_CHAT_PROMPT_H_
#define PREGATE_SERVER_GENERATION_CHAT_PROMPT_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/tokenizer.h"
#include "server/chat_template/chat_template.h"

namespace pregate {

// Special tokens are read out of the template's own text only, unless `parse_special`. Between two
// of them the text is encoded as one, whoever wrote it: a word that begins in the template and ends
// in a client's text gives the same tokens as anywhere else.
std::vector<int32_t> EncodeSegments(const Tokenizer& tokenizer,
                                    absl::Span<const RenderedSegment> segments, bool parse_special);

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_CHAT_PROMPT_H_
