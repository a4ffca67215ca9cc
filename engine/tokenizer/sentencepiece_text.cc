#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/tokenizer/bpe_merger.h"
#include "engine/tokenizer/merge_list.h"
#include "engine/tokenizer/nfc.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/text_encoder.h"
#include "engine/tokenizer/utf8.h"

namespace pregate {
namespace {

// The pieces that BPE starts from: characters. Those that only occur inside of tokens get symbols
// above the vocabulary; they last until merging is over.
class CharacterSymbols {
 public:
  static constexpr int32_t kNone = -1;

  explicit CharacterSymbols(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
    for (uint8_t byte = 0; byte < 0x80; ++byte) {
      const char c = static_cast<char>(byte);
      ascii_[byte] = Token(std::string_view(&c, 1));
    }
  }

  // Makes a symbol of `character` if it is no token.
  int32_t Intern(std::string_view character) {
    const int32_t known = Find(character);
    if (known != kNone) return known;
    const int32_t symbol = vocabulary_.size() + static_cast<int32_t>(extra_.size());
    extra_.emplace_back(character);
    extra_ids_.emplace(std::string(character), symbol);
    if (character.size() == 1) ascii_[static_cast<uint8_t>(character[0])] = symbol;
    return symbol;
  }

  int32_t Find(std::string_view character) const {
    if (character.size() == 1) return ascii_[static_cast<uint8_t>(character[0])];
    const int32_t token = Token(character);
    if (token != kNone || extra_ids_.empty()) return token;
    const auto found = extra_ids_.find(ForAbsl(character));
    return found == extra_ids_.end() ? kNone : found->second;
  }

  bool any_extra() const { return !extra_.empty(); }
  bool IsExtra(int32_t symbol) const { return symbol >= vocabulary_.size(); }
  std::string_view ExtraText(int32_t symbol) const { return extra_[symbol - vocabulary_.size()]; }

 private:
  int32_t Token(std::string_view character) const {
    const int32_t id = vocabulary_.Find(character);
    return id != Vocabulary::kNoToken && vocabulary_.CanBeMade(id) ? id : kNone;
  }

  const Vocabulary& vocabulary_;
  std::array<int32_t, 0x80> ascii_;
  std::vector<std::string> extra_;
  absl::flat_hash_map<std::string, int32_t> extra_ids_;
};

class SentencePieceText : public TextEncoder {
 public:
  SentencePieceText(const Vocabulary* vocabulary, CharacterSymbols symbols, BpeMerger merger)
      : vocabulary_(*vocabulary), symbols_(std::move(symbols)), merger_(std::move(merger)) {
    joins_space_.fill(false);
    for (int32_t id = 0; id < vocabulary_.size(); ++id) {
      if (!vocabulary_.CanBeMade(id)) continue;
      const std::string& token = vocabulary_.spec().tokens[id];
      for (size_t at = token.find(kVisibleSpace, 1); at != std::string::npos;
           at = token.find(kVisibleSpace, at + 1)) {
        joins_space_[static_cast<uint8_t>(token[at - 1])] = true;
      }
    }
  }

  void Encode(std::string_view text, bool begins_text, std::vector<int32_t>* ids) const override;

 private:
  // Appends the ids of a stretch of valid UTF-8 with visible spaces.
  void EncodeValid(std::string_view text, size_t text_first, BpeMerger::Scratch* scratch,
                   std::vector<int32_t>* ids) const;
  void AppendBytes(std::string_view bytes, size_t text_first, std::vector<int32_t>* ids) const;
  // Spells out what merging left of characters that are no tokens, from ids[first] on.
  void SpellOutExtras(size_t first, size_t text_first, std::vector<int32_t>* ids) const;
  // End of the word that starts at `start`: before a visible space that no token joins to the
  // character before it, so that no merge can cross.
  size_t WordEnd(std::string_view text, size_t start) const;

  const Vocabulary& vocabulary_;
  const CharacterSymbols symbols_;
  const BpeMerger merger_;
  // [byte] whether some token has this byte right before a visible space.
  std::array<bool, 256> joins_space_;
};

void SentencePieceText::Encode(std::string_view text, bool begins_text,
                               std::vector<int32_t>* ids) const {
  std::string stretch;  // with the space prefix, if any
  if (WantsSpacePrefix(vocabulary_.spec(), text, begins_text)) stretch = kVisibleSpace;
  const size_t text_first = ids->size();
  BpeMerger::Scratch scratch;
  ForEachUtf8Stretch(
      text,
      [&](std::string_view valid) {
        stretch += vocabulary_.spec().nfc_normalize ? NfcNormalize(valid) : std::string(valid);
        EncodeValid(stretch, text_first, &scratch, ids);
        stretch.clear();
      },
      [&](uint8_t byte) {
        // The prefix before a broken byte.
        EncodeValid(stretch, text_first, &scratch, ids);
        stretch.clear();
        const char c = static_cast<char>(byte);
        AppendBytes(std::string_view(&c, 1), text_first, ids);
      });
}

size_t SentencePieceText::WordEnd(std::string_view text, size_t start) const {
  size_t end = text.find(kVisibleSpace, start + 1);
  while (end != std::string_view::npos && joins_space_[static_cast<uint8_t>(text[end - 1])]) {
    end = text.find(kVisibleSpace, end + 1);
  }
  return std::min(end, text.size());
}

void SentencePieceText::EncodeValid(std::string_view text, size_t text_first,
                                    BpeMerger::Scratch* scratch, std::vector<int32_t>* ids) const {
  for (size_t start = 0; start < text.size();) {
    const size_t end = WordEnd(text, start);
    const size_t first = ids->size();
    while (start < end) {
      const std::string_view character = text.substr(start, DecodeUtf8(text.substr(start)).second);
      const int32_t symbol = symbols_.Find(character);
      if (symbol != CharacterSymbols::kNone) {
        ids->push_back(symbol);
      } else {
        AppendBytes(character, text_first, ids);
      }
      start += character.size();
    }
    merger_.MergeFrom(first, ids, scratch);
    if (symbols_.any_extra()) SpellOutExtras(first, text_first, ids);
  }
}

void SentencePieceText::AppendBytes(std::string_view bytes, size_t text_first,
                                    std::vector<int32_t>* ids) const {
  const bool has_all = std::all_of(bytes.begin(), bytes.end(), [&](char c) {
    return vocabulary_.ByteToken(static_cast<uint8_t>(c)) != Vocabulary::kNoToken;
  });
  if (!has_all) {
    vocabulary_.AppendUnknown(text_first, ids);
    return;
  }
  for (const char c : bytes) ids->push_back(vocabulary_.ByteToken(static_cast<uint8_t>(c)));
}

void SentencePieceText::SpellOutExtras(size_t first, size_t text_first,
                                       std::vector<int32_t>* ids) const {
  const auto is_extra = [&](int32_t symbol) { return symbols_.IsExtra(symbol); };
  if (std::none_of(ids->begin() + first, ids->end(), is_extra)) return;
  const std::vector<int32_t> merged(ids->begin() + first, ids->end());
  ids->resize(first);
  for (const int32_t symbol : merged) {
    if (symbols_.IsExtra(symbol)) {
      AppendBytes(symbols_.ExtraText(symbol), text_first, ids);
    } else {
      ids->push_back(symbol);
    }
  }
}

// rank[id]: place of the token's score among all scores, best first; equal scores share it.
absl::StatusOr<std::vector<int32_t>> RankScores(const TokenizerSpec& spec) {
  if (spec.scores.empty()) {
    return absl::FailedPreconditionError(
        "tokenizer.scores: must be given for a SentencePiece vocabulary; got none");
  }
  if (std::any_of(spec.scores.begin(), spec.scores.end(), [](float s) { return std::isnan(s); })) {
    return absl::FailedPreconditionError("tokenizer.scores: must be numbers; got NaN");
  }
  std::vector<float> sorted = spec.scores;
  std::sort(sorted.begin(), sorted.end(), std::greater<float>());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::vector<int32_t> ranks;
  ranks.reserve(spec.scores.size());
  for (const float score : spec.scores) {
    const auto place = std::lower_bound(sorted.begin(), sorted.end(), score, std::greater<float>());
    ranks.push_back(static_cast<int32_t>(place - sorted.begin()));
  }
  return ranks;
}

// Every way to cut a token into two symbols is a merge, as good as the token's score.
absl::StatusOr<BpeMerger> MergesByScore(const Vocabulary& vocabulary, CharacterSymbols* symbols) {
  const absl::StatusOr<std::vector<int32_t>> ranks = RankScores(vocabulary.spec());
  if (!ranks.ok()) return ranks.status();
  BpeMerger merger;
  merger.Reserve(2 * static_cast<size_t>(vocabulary.size()));
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view token = vocabulary.spec().tokens[id];
    if (!vocabulary.IsNormal(id) || ValidUtf8Prefix(token) != token.size()) continue;
    const auto symbol_of = [&](std::string_view part) {
      const bool single = DecodeUtf8(part).second == part.size();
      if (single) return symbols->Intern(part);
      const int32_t part_id = vocabulary.Find(part);
      return part_id != Vocabulary::kNoToken && vocabulary.IsNormal(part_id) ? part_id
                                                                             : Vocabulary::kNoToken;
    };
    size_t cut = token.empty() ? 0 : DecodeUtf8(token).second;
    while (cut < token.size()) {
      const int32_t left = symbol_of(token.substr(0, cut));
      const int32_t right = symbol_of(token.substr(cut));
      if (left >= 0 && right >= 0) merger.Add(left, right, {(*ranks)[id], id});
      cut += DecodeUtf8(token.substr(cut)).second;
    }
  }
  return merger;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TextEncoder>> MakeSentencePieceText(const Vocabulary* vocabulary) {
  CharacterSymbols symbols(*vocabulary);
  absl::StatusOr<BpeMerger> merger =
      vocabulary->spec().model == TokenizerSpec::Model::kSentencePieceBpe
          ? MergesByScore(*vocabulary, &symbols)
          : MergesByRank(*vocabulary);
  if (!merger.ok()) return merger.status();
  return std::make_unique<SentencePieceText>(vocabulary, std::move(symbols), *std::move(merger));
}

}  // namespace pregate
