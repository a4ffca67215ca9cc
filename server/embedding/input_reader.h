// InputReader: from what a client wrote to the ids of one text that an encoder reads.
#ifndef PREGATE_SERVER_EMBEDDING_INPUT_READER_H_
#define PREGATE_SERVER_EMBEDDING_INPUT_READER_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/tokenizer.h"

namespace pregate {

// A text, or ids that are taken as they are.
using TextOrIds = std::variant<std::string, std::vector<int32_t>>;

// INVALID_ARGUMENT when there is none, or there are more, or more bytes or ids in all, than a call
// may have. Looks at sizes alone.
absl::Status CheckInputs(absl::string_view field, absl::Span<const TextOrIds> inputs);
absl::Status CheckTexts(absl::string_view field, absl::Span<const std::string> texts);

// Errors are INVALID_ARGUMENT and begin with `field`.
class InputReader {
 public:
  // Texts are read as `max_tokens` tokens at most, special tokens included. `tokenizer` must
  // outlive this.
  InputReader(const Tokenizer* tokenizer, int32_t max_tokens);

  // The ids of `prefix` and `text` together, with the tokens that the model wants around them. Too
  // long a text loses its end if `truncate`, else it is an error.
  absl::StatusOr<std::vector<int32_t>> Read(absl::string_view field, const std::string& prefix,
                                            const std::string& text, bool truncate) const;
  // Of a list of ids too, but for the special token that ends it. Nothing is put in front of one.
  absl::StatusOr<std::vector<int32_t>> Read(absl::string_view field, std::vector<int32_t> ids,
                                            bool truncate) const;

  // Without special tokens, however long.
  absl::StatusOr<std::vector<int32_t>> ReadPlain(absl::string_view field,
                                                 const std::string& text) const;

  // Special tokens around ids that leave room for them.
  std::vector<int32_t> Wrap(absl::Span<const int32_t> ids) const;
  // Ids that a text may have beside its special tokens.
  int32_t room() const { return max_tokens_ - static_cast<int32_t>(special_.size()); }
  int32_t max_tokens() const { return max_tokens_; }

 private:
  absl::Status TooLong(absl::string_view field, size_t tokens) const;

  const Tokenizer* tokenizer_;
  int32_t max_tokens_;
  std::vector<int32_t> special_;  // those of an empty text
  size_t front_;                  // of these, in front of a text
};

// Stretches of at most `length` of `size` things, in order: each begins a quarter before the one
// before it ends, so that what stands across a border is whole in one of them. (begin, end) pairs.
std::vector<std::pair<int32_t, int32_t>> Stretches(int32_t size, int32_t length);

}  // namespace pregate

#endif  // PREGATE_SERVER_EMBEDDING_INPUT_READER_H_
