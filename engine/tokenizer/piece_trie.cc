#include "engine/tokenizer/piece_trie.h"

#include <algorithm>

namespace pregate {

PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, int32_t>> pieces) {
  std::sort(pieces.begin(), pieces.end());
  // Pieces [begin, end) share the node's spelling, which is `depth` bytes long.
  struct Range {
    size_t begin, end, depth;
  };
  std::vector<Range> ranges = {{0, pieces.size(), 0}};  // of each node
  nodes_.emplace_back();
  for (size_t node = 0; node < nodes_.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    if (begin < end && pieces[begin].first.size() == depth) {
      nodes_[node].id = pieces[begin].second;
      while (begin < end && pieces[begin].first.size() == depth) ++begin;
    }
    nodes_[node].first_child = static_cast<int32_t>(nodes_.size());
    while (begin < end) {
      const auto byte = static_cast<uint8_t>(pieces[begin].first[depth]);
      size_t next = begin;
      while (next < end && static_cast<uint8_t>(pieces[next].first[depth]) == byte) ++next;
      Node child;
      child.byte = byte;
      nodes_.push_back(child);
      ranges.push_back({begin, next, depth + 1});
      ++nodes_[node].children;
      begin = next;
    }
  }
}

int32_t PieceTrie::Child(int32_t node, uint8_t byte) const {
  const Node& parent = nodes_[static_cast<size_t>(node)];
  const auto begin = nodes_.begin() + parent.first_child;
  const auto end = begin + parent.children;
  const auto found = std::lower_bound(
      begin, end, byte, [](const Node& child, uint8_t wanted) { return child.byte < wanted; });
  if (found == end || found->byte != byte) return -1;
  return static_cast<int32_t>(found - nodes_.begin());
}

}  // namespace pregate
