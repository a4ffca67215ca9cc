// The part of encoding that differs between families: plain text to ids.
#ifndef PREGATE_ENGINE_TOKENIZER_TEXT_ENCODER_H_
#define PREGATE_ENGINE_TOKENIZER_TEXT_ENCODER_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/vocabulary.h"

namespace pregate {

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  // Appends the ids of `text` (not empty, any bytes; with visible spaces if WritesVisibleSpaces), a
  // stretch without added tokens.
  // `begins_text`: nothing stands before it.
  virtual void Encode(std::string_view text, bool begins_text, std::vector<int32_t>* ids) const = 0;
};

// Byte-level BPE (Radford et al. 2019). `vocabulary` must outlive it, here and below.
// FAILED_PRECONDITION for a pre-tokeniser we do not know or merges that do not fit the vocabulary.
absl::StatusOr<std::unique_ptr<TextEncoder>> MakeByteLevelText(const Vocabulary* vocabulary);

// BPE over characters with visible spaces and byte fallback: by score (SentencePiece, Kudo and
// Richardson 2018) or by merges (the same vocabularies in tokenizer.json).
absl::StatusOr<std::unique_ptr<TextEncoder>> MakeSentencePieceText(const Vocabulary* vocabulary);

std::unique_ptr<TextEncoder> MakeWordPieceText(const Vocabulary* vocabulary);

// FAILED_PRECONDITION for scores that are missing or absurd, or a charsmap that is broken.
absl::StatusOr<std::unique_ptr<TextEncoder>> MakeUnigramText(const Vocabulary* vocabulary);

// Whether spec.add_space_prefix asks for a space before this stretch.
bool WantsSpacePrefix(const TokenizerSpec& spec, std::string_view text, bool begins_text);

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_TEXT_ENCODER_H_
