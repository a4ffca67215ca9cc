#include <algorithm>

#include "engine/tokenizer.h"

namespace pregate {
namespace {

// How the public chat formats spell the tokens that end a turn or a text. Many files name only one
// of them as EOS, and often not the one that ends a turn.
constexpr std::string_view kSpellings[] = {
    "<|im_end|>",      "<|eot_id|>",         "<|eom_id|>",
    "<|eot|>",         "<end_of_turn>",      "<|end_of_turn|>",
    "<|end|>",         "<|endoftext|>",      "<EOT>",
    "<|end_of_text|>", "<end_of_utterance>", "<｜end▁of▁sentence｜>"};

bool EndsTurn(std::string_view token) {
  return std::find(std::begin(kSpellings), std::end(kSpellings), token) != std::end(kSpellings);
}

}  // namespace

void MarkEndOfTurnTokens(TokenizerSpec* spec) {
  std::vector<int32_t>& ids = spec->end_of_turn_ids;
  for (size_t id = 0; id < spec->tokens.size(); ++id) {
    if (!EndsTurn(spec->tokens[id])) continue;
    if (!spec->token_types.empty()) {
      uint8_t& type = spec->token_types[id];
      // A plain token of this spelling is made by merging letters: it is text.
      if (type != TokenizerSpec::kControl && type != TokenizerSpec::kUserDefined) continue;
      type = TokenizerSpec::kControl;
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

}  // namespace pregate
