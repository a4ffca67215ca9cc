// Finds the tokens that are matched in the text before anything else is done with it.
#ifndef PREGATE_ENGINE_TOKENIZER_ADDED_TOKENS_H_
#define PREGATE_ENGINE_TOKENIZER_ADDED_TOKENS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/tokenizer/vocabulary.h"

namespace pregate {

// A trie over the spellings of user-defined tokens and, apart, of control tokens. Of the matches
// that start first the longest wins. Time O(n * longest token).
class AddedTokens {
 public:
  // A stretch of text, or, with id >= 0, a token in its place.
  struct Piece {
    std::string_view text;
    int32_t id = -1;
  };

  // The bytes of a text up to `end`, behind those of the stretch before.
  struct Stretch {
    size_t end;
    bool parse_special;
  };

  explicit AddedTokens(const Vocabulary& vocabulary);

  // Cuts `text` (with visible spaces if WritesVisibleSpaces), which `stretches` cover,
  // into pieces, in order, none empty. Control and unknown tokens are looked for only within a
  // stretch with `parse_special`.
  std::vector<Piece> Split(std::string_view text, const std::vector<Stretch>& stretches) const;

 private:
  struct Edge {
    uint8_t byte;
    int32_t node;
  };
  struct Node {
    std::vector<Edge> edges;
    int32_t id = -1;
    bool special = false;
  };
  struct Match {
    int32_t id;
    size_t bytes;
  };

  void Insert(std::string_view spelling, int32_t id, bool special);
  // The longest token at the start of `text`, of at most `max_special_bytes` if it is a control or
  // unknown one; id -1 when there is none.
  Match LongestAt(std::string_view text, size_t max_special_bytes) const;

  std::vector<Node> nodes_;
  std::vector<int32_t> first_;                       // [256] node of the first byte, or -1
  std::vector<int32_t> strip_before_, strip_after_;  // sorted ids
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_ADDED_TOKENS_H_
