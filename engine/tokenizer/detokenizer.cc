#include "engine/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace pregate {

std::string IncrementalDetokenizer::Add(int32_t id) {
  std::string bytes = tokenizer_->TokenBytes(id, show_special_);
  if (!started_ && !bytes.empty()) {
    started_ = true;
    const TokenizerSpec& spec = tokenizer_->spec();
    const bool prefixed =
        spec.add_space_prefix && spec.model != TokenizerSpec::Model::kByteBpe && bytes[0] == ' ';
    if (prefixed) bytes.erase(0, 1);
  }
  pending_ += bytes;
  std::string text;
  pending_.erase(0, AppendWholeCharacters(pending_, &text));
  return text;
}

std::string IncrementalDetokenizer::Finish() {
  // What is held back is one beginning of a character, hence one maximal part.
  const bool cut = !pending_.empty();
  pending_.clear();
  return std::string(cut ? kReplacementCharacter : "");
}

}  // namespace pregate
