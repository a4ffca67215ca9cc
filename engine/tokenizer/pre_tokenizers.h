// The pre-tokenisers that GGUF files name in `tokenizer.ggml.pre`, as regular expressions.
#ifndef PREGATE_ENGINE_TOKENIZER_PRE_TOKENIZERS_H_
#define PREGATE_ENGINE_TOKENIZER_PRE_TOKENIZERS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace pregate {

// GPT-2's words: what ByteLevel(use_regex=true) of tokenizer.json means.
extern const std::string_view kGpt2Pattern;

struct PreTokenizer {
  std::string_view name;  // as `tokenizer.ggml.pre` spells it
  // Applied one after another, each to the pieces that the one before left; in the dialect of
  // tokenizer.json.
  std::vector<std::string_view> patterns;
  bool ignore_merges = false;  // a word that is a token is taken whole
  bool nfc_normalize = false;
};

// The entry called `name` ("" and "default" are GPT-2's, "none" leaves the text whole), or
// nullptr.
const PreTokenizer* FindPreTokenizer(std::string_view name);

absl::Span<const PreTokenizer> AllPreTokenizers();

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_PRE_TOKENIZERS_H_
