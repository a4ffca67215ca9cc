// Finds the tokens that a text begins with.
#ifndef PREGATE_ENGINE_TOKENIZER_PIECE_TRIE_H_
#define PREGATE_ENGINE_TOKENIZER_PIECE_TRIE_H_

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace pregate {

// A trie over bytes whose nodes lie level by level, the children of each side by side: 12 bytes a
// node.
class PieceTrie {
 public:
  // Spellings, none empty, and their ids.
  explicit PieceTrie(std::vector<std::pair<std::string_view, int32_t>> pieces);

  // Calls visit(bytes, id) for every piece at the start of `text`, the shortest first. Time in the
  // length of the longest.
  template <typename Visit>
  void ForEachPrefix(std::string_view text, Visit visit) const {
    int32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      node = Child(node, static_cast<uint8_t>(text[i]));
      if (node < 0) return;
      const int32_t id = nodes_[static_cast<size_t>(node)].id;
      if (id >= 0) visit(i + 1, id);
    }
  }

 private:
  struct Node {
    int32_t first_child = 0;
    int32_t id = -1;
    uint16_t children = 0;
    uint8_t byte = 0;
  };
  int32_t Child(int32_t node, uint8_t byte) const;

  std::vector<Node> nodes_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_PIECE_TRIE_H_
