#include "engine/tokenizer/added_tokens.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace pregate {
namespace {

std::vector<int32_t> Sorted(std::vector<int32_t> ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

// Bytes of white space (ASCII's or a visible space) at the start / the end of `text`.
size_t LeadingSpace(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (absl::ascii_isspace(text[at])) {
      ++at;
    } else if (text.substr(at).starts_with(kVisibleSpace)) {
      at += kVisibleSpace.size();
    } else {
      break;
    }
  }
  return at;
}

size_t TrailingSpace(std::string_view text) {
  const size_t size = text.size();
  while (!text.empty()) {
    if (absl::ascii_isspace(text.back())) {
      text.remove_suffix(1);
    } else if (text.ends_with(kVisibleSpace)) {
      text.remove_suffix(kVisibleSpace.size());
    } else {
      break;
    }
  }
  return size - text.size();
}

bool Has(const std::vector<int32_t>& sorted, int32_t id) {
  return std::binary_search(sorted.begin(), sorted.end(), id);
}

}  // namespace

AddedTokens::AddedTokens(const Vocabulary& vocabulary)
    : first_(256, -1),
      strip_before_(Sorted(vocabulary.spec().strip_before_ids)),
      strip_after_(Sorted(vocabulary.spec().strip_after_ids)) {
  const bool visible = WritesVisibleSpaces(vocabulary.spec());
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const TokenizerSpec::TokenType type = vocabulary.type(id);
    const bool special = type == TokenizerSpec::kControl || type == TokenizerSpec::kUnknown;
    if (special || type == TokenizerSpec::kUserDefined) {
      const std::string spelling(vocabulary.bytes(id));
      Insert(visible ? SpacesToVisible(spelling) : spelling, id, special);
    }
  }
}

void AddedTokens::Insert(std::string_view spelling, int32_t id, bool special) {
  if (spelling.empty()) return;
  int32_t* slot = &first_[static_cast<uint8_t>(spelling[0])];
  int32_t node = *slot;
  if (node < 0) {
    *slot = node = static_cast<int32_t>(nodes_.size());
    nodes_.emplace_back();
  }
  for (const char c : spelling.substr(1)) {
    const uint8_t byte = static_cast<uint8_t>(c);
    const auto& edges = nodes_[node].edges;
    const auto edge =
        std::find_if(edges.begin(), edges.end(), [byte](Edge e) { return e.byte == byte; });
    if (edge != edges.end()) {
      node = edge->node;
      continue;
    }
    const int32_t child = static_cast<int32_t>(nodes_.size());
    nodes_[node].edges.push_back({byte, child});
    nodes_.emplace_back();
    node = child;
  }
  nodes_[node].id = id;
  nodes_[node].special = special;
}

AddedTokens::Match AddedTokens::LongestAt(std::string_view text, size_t max_special_bytes) const {
  Match longest = {-1, 0};
  int32_t node = first_[static_cast<uint8_t>(text[0])];
  for (size_t bytes = 1; node >= 0; ++bytes) {
    const Node& here = nodes_[node];
    if (here.id >= 0 && (!here.special || bytes <= max_special_bytes)) longest = {here.id, bytes};
    if (bytes == text.size()) break;
    const uint8_t byte = static_cast<uint8_t>(text[bytes]);
    const auto edge = std::find_if(here.edges.begin(), here.edges.end(),
                                   [byte](Edge e) { return e.byte == byte; });
    node = edge == here.edges.end() ? -1 : edge->node;
  }
  return longest;
}

std::vector<AddedTokens::Piece> AddedTokens::Split(std::string_view text,
                                                   const std::vector<Stretch>& stretches) const {
  std::vector<Piece> pieces;
  size_t start = 0;  // of the text that is not yet given out
  auto stretch = stretches.begin();
  for (size_t at = 0; at < text.size();) {
    while (stretch->end <= at) ++stretch;
    const Match match = LongestAt(text.substr(at), stretch->parse_special ? stretch->end - at : 0);
    if (match.id < 0) {
      ++at;
      continue;
    }
    size_t end = at;
    if (Has(strip_before_, match.id)) end -= TrailingSpace(text.substr(start, at - start));
    if (end > start) pieces.push_back({text.substr(start, end - start)});
    pieces.push_back({text.substr(at, match.bytes), match.id});
    at += match.bytes;
    if (Has(strip_after_, match.id)) at += LeadingSpace(text.substr(at));
    start = at;
  }
  if (start < text.size()) pieces.push_back({text.substr(start)});
  return pieces;
}

}  // namespace pregate
