// Unicode's Normalization Form C, which Qwen's tokenizers ask for.
#ifndef PREGATE_ENGINE_TOKENIZER_NFC_H_
#define PREGATE_ENGINE_TOKENIZER_NFC_H_

#include <string>
#include <string_view>

namespace pregate {

// `text` (valid UTF-8) in Normalization Form C. Time O(n log n).
std::string NfcNormalize(std::string_view text);

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_NFC_H_
