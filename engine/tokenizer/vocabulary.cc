#include "engine/tokenizer/vocabulary.h"

#include <cassert>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/utf8.h"

namespace pregate {
namespace {

// Bounds the work of cutting a token at every character; published ones stay below 300.
constexpr size_t kMaxTokenBytes = 1024;

absl::Status Broken(std::string_view field, std::string_view rule, size_t got) {
  return absl::FailedPreconditionError(Cat("tokenizer.", field, ": ", rule, "; got ", got));
}

// The byte that "<0xXX>" spells, or -1.
int ParseByteToken(std::string_view spelling) {
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling[5] != '>') return -1;
  int value = 0;
  for (const char digit : spelling.substr(3, 2)) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(digit))) return -1;
    value = value * 16 + (digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
  }
  return value;
}

}  // namespace

std::string SpacesToVisible(std::string_view text) { return ReplaceAll(text, " ", kVisibleSpace); }

absl::StatusOr<std::unique_ptr<Vocabulary>> Vocabulary::Create(TokenizerSpec spec) {
  auto vocabulary = std::unique_ptr<Vocabulary>(new Vocabulary(std::move(spec)));
  for (const auto& check :
       {vocabulary->CheckSizes(), vocabulary->CheckIds(), vocabulary->Index()}) {
    if (!check.ok()) return check;
  }
  for (int32_t id = 0; id < vocabulary->size(); ++id) vocabulary->AppendBytes(id);
  vocabulary->FindByteTokens();
  return vocabulary;
}

absl::Status Vocabulary::CheckSizes() const {
  const size_t size = spec_.tokens.size();
  if (size == 0 || size > kMaxVocabulary) {
    return Broken("tokens", Cat("1 to ", kMaxVocabulary, " tokens"), size);
  }
  if (!spec_.scores.empty() && spec_.scores.size() != size) {
    return Broken("scores", Cat("one for each of ", size, " tokens"), spec_.scores.size());
  }
  if (!spec_.token_types.empty() && spec_.token_types.size() != size) {
    return Broken("token_type", Cat("one for each of ", size, " tokens"), spec_.token_types.size());
  }
  size_t total_bytes = 0;
  for (const std::string& token : spec_.tokens) {
    if (token.size() > kMaxTokenBytes) {
      return Broken("tokens", Cat("at most ", kMaxTokenBytes, " bytes each"), token.size());
    }
    total_bytes += token.size();
  }
  // Each merge cuts a token in two, and a token can be cut before each byte but its first.
  if (spec_.merges.size() > total_bytes) {
    return Broken("merges", "no more than there are ways to cut the tokens in two",
                  spec_.merges.size());
  }
  return absl::OkStatus();
}

absl::Status Vocabulary::CheckIds() const {
  const auto check = [&](std::string_view field, std::optional<int32_t> id) {
    if (!id.has_value() || (*id >= 0 && *id < size())) return absl::OkStatus();
    return absl::FailedPreconditionError(
        Cat("tokenizer.", field, ": must be 0 to ", size() - 1, "; got ", *id));
  };
  for (const auto& [field, id] :
       {std::pair{"bos_token_id", spec_.bos_id}, std::pair{"eos_token_id", spec_.eos_id},
        std::pair{"unknown_token_id", spec_.unknown_id}}) {
    if (absl::Status status = check(field, id); !status.ok()) return status;
  }
  for (const auto& [field, ids] : {std::pair{"end_of_turn_ids", &spec_.end_of_turn_ids},
                                   std::pair{"pair_separators", &spec_.pair_separators},
                                   std::pair{"strip_before_ids", &spec_.strip_before_ids},
                                   std::pair{"strip_after_ids", &spec_.strip_after_ids}}) {
    for (const int32_t id : *ids) {
      if (absl::Status status = check(field, id); !status.ok()) return status;
    }
  }
  if (spec_.add_bos && !spec_.bos_id.has_value()) {
    return absl::FailedPreconditionError(
        "tokenizer.bos_token_id: must be given when add_bos_token is true; got none");
  }
  if (spec_.add_eos && !spec_.eos_id.has_value()) {
    return absl::FailedPreconditionError(
        "tokenizer.eos_token_id: must be given when add_eos_token is true; got none");
  }
  return absl::OkStatus();
}

absl::Status Vocabulary::Index() {
  ids_.reserve(spec_.tokens.size());
  for (int32_t id = 0; id < size(); ++id) {
    const auto [entry, is_new] = ids_.try_emplace(spec_.tokens[id], id);
    if (!is_new) {
      return absl::FailedPreconditionError(
          Cat("tokenizer.tokens[", id, "]: must differ from every other token; got \"",
              spec_.tokens[id], "\" as tokens[", entry->second, "]"));
    }
  }
  return absl::OkStatus();
}

void Vocabulary::AppendBytes(int32_t id) {
  static const ByteAlphabet alphabet;
  if (offsets_.empty()) {
    offsets_.reserve(spec_.tokens.size() + 1);
    offsets_.push_back(0);
  }
  const std::string& spelling = spec_.tokens[id];
  const TokenizerSpec::TokenType kind = type(id);
  const bool byte_level = spec_.model == TokenizerSpec::Model::kByteBpe;
  const bool as_spelled = kind == TokenizerSpec::kControl || kind == TokenizerSpec::kUnknown ||
                          ValidUtf8Prefix(spelling) != spelling.size();
  const int byte = kind == TokenizerSpec::kByte ? ParseByteToken(spelling) : -1;
  if (byte >= 0) {
    bytes_.push_back(static_cast<char>(byte));
  } else if (as_spelled) {
    bytes_.append(spelling);
  } else if (spec_.model == TokenizerSpec::Model::kWordPiece) {
    // A piece that continues a word, or a word with the space before it.
    const bool continues = spelling.starts_with("##") && spelling.size() > 2;
    const bool begins = !continues && kind == TokenizerSpec::kNormal;
    bytes_.append(begins ? " " : "").append(spelling, continues ? 2 : 0);
  } else if (!byte_level) {
    bytes_ += ReplaceAll(spelling, kVisibleSpace, " ");
  } else if (kind == TokenizerSpec::kUserDefined || !alphabet.AppendBytes(spelling, &bytes_)) {
    bytes_.append(spelling);
  }
  offsets_.push_back(bytes_.size());
}

void Vocabulary::FindByteTokens() {
  static const ByteAlphabet alphabet;
  byte_tokens_.fill(kNoToken);
  if (spec_.model == TokenizerSpec::Model::kByteBpe) {
    for (int byte = 0; byte < 256; ++byte) {
      const int32_t id = Find(alphabet.Spell(static_cast<uint8_t>(byte)));
      if (id != kNoToken && IsNormal(id)) byte_tokens_[byte] = id;
    }
    return;
  }
  for (int32_t id = 0; id < size(); ++id) {
    if (type(id) != TokenizerSpec::kByte) continue;
    const int byte = ParseByteToken(spec_.tokens[id]);
    if (byte >= 0) byte_tokens_[byte] = id;
  }
}

void Vocabulary::AppendUnknown(size_t first, std::vector<int32_t>* ids) const {
  // Files without a true unknown token name some control token, which text must not become.
  if (!spec_.unknown_id.has_value() || type(*spec_.unknown_id) == TokenizerSpec::kControl) return;
  const bool after_unknown = ids->size() > first && ids->back() == *spec_.unknown_id;
  if (!after_unknown || !spec_.fuse_unknown) ids->push_back(*spec_.unknown_id);
}

int32_t Vocabulary::Find(std::string_view spelling) const {
  const auto found = ids_.find(spelling);
  return found == ids_.end() ? kNoToken : found->second;
}

TokenizerSpec::TokenType Vocabulary::type(int32_t id) const {
  assert(id >= 0 && id < size());
  return spec_.token_types.empty() ? TokenizerSpec::kNormal
                                   : static_cast<TokenizerSpec::TokenType>(spec_.token_types[id]);
}

}  // namespace pregate
