// The tokens of one tokenizer: spelling, bytes and kind.
#ifndef PREGATE_ENGINE_TOKENIZER_VOCABULARY_H_
#define PREGATE_ENGINE_TOKENIZER_VOCABULARY_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer.h"

namespace pregate {

// Tokens that a vocabulary may have. One of a million takes 80 MB.
inline constexpr size_t kMaxVocabulary = size_t{1} << 21;

// U+2581, SentencePiece's visible space.
inline constexpr std::string_view kVisibleSpace = "\xE2\x96\x81";

std::string SpacesToVisible(std::string_view text);

// Whether spaces become visible before anything else is done with a text.
inline bool WritesVisibleSpaces(const TokenizerSpec& spec) {
  return spec.model == TokenizerSpec::Model::kSentencePieceBpe ||
         spec.model == TokenizerSpec::Model::kMergedBpe;
}

// Immutable. Token ids are positions in `spec().tokens`.
class Vocabulary {
 public:
  static constexpr int32_t kNoToken = -1;

  // Takes over `spec`. FAILED_PRECONDITION for duplicates, sizes that do not agree, ids out of
  // range, or tokens that are too long.
  static absl::StatusOr<std::unique_ptr<Vocabulary>> Create(TokenizerSpec spec);

  int32_t size() const { return static_cast<int32_t>(spec_.tokens.size()); }
  const TokenizerSpec& spec() const { return spec_; }

  // The token spelled exactly so, or kNoToken.
  int32_t Find(std::string_view spelling) const;
  TokenizerSpec::TokenType type(int32_t id) const;
  bool IsNormal(int32_t id) const { return type(id) == TokenizerSpec::kNormal; }
  // Whether merging may make this token out of plain text: never a control, unknown or byte token.
  bool CanBeMade(int32_t id) const {
    return IsNormal(id) || type(id) == TokenizerSpec::kUserDefined;
  }
  // The token of one byte, or kNoToken.
  int32_t ByteToken(uint8_t byte) const { return byte_tokens_[byte]; }
  // Appends the unknown token, if there is one, to what stands in `ids` from `first` on; once for a
  // run of them when the spec fuses them.
  void AppendUnknown(size_t first, std::vector<int32_t>* ids) const;
  // What the token stands for in text: bytes decoded from the byte-level alphabet, visible spaces
  // as spaces, "<0x41>" as "A"; control tokens as they are spelled.
  std::string_view bytes(int32_t id) const {
    return std::string_view(bytes_).substr(offsets_[id], offsets_[id + 1] - offsets_[id]);
  }
  // The merges are needed only while a tokenizer is made.
  void DropMerges() { std::vector<std::pair<std::string, std::string>>().swap(spec_.merges); }

 private:
  explicit Vocabulary(TokenizerSpec spec) : spec_(std::move(spec)) {}
  absl::Status CheckSizes() const;
  absl::Status CheckIds() const;
  absl::Status Index();
  void AppendBytes(int32_t id);
  void FindByteTokens();

  TokenizerSpec spec_;
  absl::flat_hash_map<std::string_view, int32_t> ids_;  // views into spec_.tokens
  std::string bytes_;                                   // of all tokens, one after another
  std::vector<size_t> offsets_;                         // [vocab + 1] in bytes_
  std::array<int32_t, 256> byte_tokens_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_VOCABULARY_H_
