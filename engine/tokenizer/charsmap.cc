#include "engine/tokenizer/charsmap.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/status/status.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/utf8.h"

namespace pregate {
namespace {

static_assert(std::endian::native == std::endian::little);

// Bytes that a rule may match at most; those of NFKC stay below 20. It bounds the time of a text
// under rules that are made to hurt.
constexpr size_t kLongestRule = 64;
constexpr size_t kLongestReplacement = 256;  // bytes; those of NFKC have 33 at most

// Fields of a unit.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t Label(uint32_t unit) { return unit & 0x800000FF; }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

absl::Status Broken(std::string_view rule, size_t got) {
  return absl::FailedPreconditionError(
      Cat("tokenizer.precompiled_charsmap: ", rule, "; got ", got));
}

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Parse(std::string_view blob) {
  Charsmap map;
  if (blob.empty()) return map;
  uint32_t bytes;
  if (blob.size() < sizeof(bytes)) return Broken("must have at least 4 bytes", blob.size());
  std::memcpy(&bytes, blob.data(), sizeof(bytes));
  blob.remove_prefix(sizeof(bytes));
  if (bytes % sizeof(uint32_t) != 0 || bytes > blob.size() || bytes == 0) {
    return Broken(Cat("the trie must be 4 to ", blob.size(), " bytes, in fours"), bytes);
  }
  map.units_.resize(bytes / sizeof(uint32_t));
  std::memcpy(map.units_.data(), blob.data(), bytes);
  map.strings_ = std::string(blob.substr(bytes));
  if (map.strings_.empty() || map.strings_.back() != '\0') {
    return Broken("the strings must end with a NUL", map.strings_.size());
  }
  if (ValidUtf8Prefix(map.strings_) != map.strings_.size()) {
    return Broken("the strings must be UTF-8", map.strings_.size());
  }
  return map;
}

Charsmap::Match Charsmap::LongestAt(std::string_view text) const {
  Match longest;
  if (units_.empty()) return longest;
  size_t node = Offset(units_[0]);
  const size_t most = std::min(text.size(), kLongestRule);
  for (size_t i = 0; i < most; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= units_.size() || Label(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= Offset(unit);
    if (!HasLeaf(unit)) continue;
    if (node >= units_.size()) break;
    const size_t at = Value(units_[node]);
    const bool whole_characters =
        i + 1 == text.size() || (static_cast<uint8_t>(text[i + 1]) & 0xC0) != 0x80;
    const bool begins_one =
        at < strings_.size() && (static_cast<uint8_t>(strings_[at]) & 0xC0) != 0x80;
    if (!whole_characters || !begins_one) continue;
    const std::string_view rest = std::string_view(strings_).substr(at, kLongestReplacement + 1);
    const size_t end = rest.find('\0');
    // What is longer than that would let a short text become one that fills memory.
    if (end != std::string_view::npos) longest = {i + 1, rest.substr(0, end)};
  }
  return longest;
}

std::string Charsmap::Normalize(std::string_view text) const {
  if (units_.empty()) return std::string(text);
  std::string normalized;
  normalized.reserve(text.size() + text.size() / 8);
  while (!text.empty()) {
    const Match match = LongestAt(text);
    const size_t bytes = match.bytes > 0 ? match.bytes : DecodeUtf8(text).second;
    normalized.append(match.bytes > 0 ? match.replacement : text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return normalized;
}

}  // namespace pregate
