#include "engine/tokenizer.h"

#include <algorithm>
#include <cassert>

#include "absl/status/status.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/pre_tokenizers.h"
#include "engine/tokenizer/text_encoder.h"
#include "engine/tokenizer/vocabulary.h"

namespace pregate {
namespace {

class ModelTokenizer : public Tokenizer {
 public:
  ModelTokenizer(std::unique_ptr<Vocabulary> vocabulary, std::unique_ptr<TextEncoder> text_encoder)
      : vocabulary_(std::move(vocabulary)),
        text_encoder_(std::move(text_encoder)),
        added_tokens_(*vocabulary_),
        stop_ids_(FindStopIds(*vocabulary_)) {}

  std::vector<int32_t> EncodeParts(absl::Span<const TextPart> parts,
                                   bool add_special) const override;
  std::string TokenBytes(int32_t id, bool show_special) const override;
  std::string Decode(absl::Span<const int32_t> ids, bool show_special) const override;

  int32_t vocab_size() const override { return vocabulary_->size(); }
  const TokenizerSpec& spec() const override { return vocabulary_->spec(); }
  absl::Span<const int32_t> stop_ids() const override { return stop_ids_; }
  std::optional<int32_t> FindToken(std::string_view token) const override {
    const int32_t id = vocabulary_->Find(token);
    return id == Vocabulary::kNoToken ? std::nullopt : std::optional<int32_t>(id);
  }

 private:
  static std::vector<int32_t> FindStopIds(const Vocabulary& vocabulary);

  const std::unique_ptr<Vocabulary> vocabulary_;
  const std::unique_ptr<TextEncoder> text_encoder_;
  const AddedTokens added_tokens_;
  const std::vector<int32_t> stop_ids_;
};

std::vector<int32_t> ModelTokenizer::FindStopIds(const Vocabulary& vocabulary) {
  std::vector<int32_t> ids = vocabulary.spec().end_of_turn_ids;
  if (vocabulary.spec().eos_id.has_value()) ids.push_back(*vocabulary.spec().eos_id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::vector<int32_t> ModelTokenizer::EncodeParts(absl::Span<const TextPart> parts,
                                                 bool add_special) const {
  const TokenizerSpec& spec = vocabulary_->spec();
  const bool visible = WritesVisibleSpaces(spec);
  std::string text;
  std::vector<AddedTokens::Stretch> stretches;
  for (const TextPart& part : parts) {
    visible ? text.append(SpacesToVisible(part.text)) : text.append(part.text);
    stretches.push_back({text.size(), part.parse_special});
  }

  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 2);
  if (add_special && spec.add_bos) ids.push_back(*spec.bos_id);
  for (const AddedTokens::Piece& piece : added_tokens_.Split(text, stretches)) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
    } else {
      text_encoder_->Encode(piece.text, piece.text.data() == text.data(), &ids);
    }
  }
  if (add_special && spec.add_eos) ids.push_back(*spec.eos_id);
  return ids;
}

std::string ModelTokenizer::TokenBytes(int32_t id, bool show_special) const {
  assert(id >= 0 && id < vocab_size());
  const TokenizerSpec::TokenType type = vocabulary_->type(id);
  const bool special = type == TokenizerSpec::kControl || type == TokenizerSpec::kUnknown;
  if (special && !show_special) return "";
  return std::string(vocabulary_->bytes(id));
}

std::string ModelTokenizer::Decode(absl::Span<const int32_t> ids, bool show_special) const {
  IncrementalDetokenizer detokenizer(this, show_special);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.Add(id);
  return text + detokenizer.Finish();
}

}  // namespace

Tokenizer::Pair Tokenizer::JoinPair(absl::Span<const int32_t> first,
                                    absl::Span<const int32_t> second) const {
  const TokenizerSpec& around = spec();
  assert(makes_pairs());
  Pair pair;
  pair.ids.reserve(first.size() + second.size() + around.pair_separators.size() + 2);
  if (around.add_bos) pair.ids.push_back(*around.bos_id);
  pair.ids.insert(pair.ids.end(), first.begin(), first.end());
  pair.ids.insert(pair.ids.end(), around.pair_separators.begin(), around.pair_separators.end());
  pair.second_begin = static_cast<int32_t>(pair.ids.size());
  pair.ids.insert(pair.ids.end(), second.begin(), second.end());
  if (around.add_eos) pair.ids.push_back(*around.eos_id);
  return pair;
}

namespace {

absl::StatusOr<std::unique_ptr<TextEncoder>> MakeTextEncoder(const Vocabulary* vocabulary) {
  switch (vocabulary->spec().model) {
    case TokenizerSpec::Model::kByteBpe:
      return MakeByteLevelText(vocabulary);
    case TokenizerSpec::Model::kSentencePieceBpe:
    case TokenizerSpec::Model::kMergedBpe:
      return MakeSentencePieceText(vocabulary);
    case TokenizerSpec::Model::kWordPiece:
      return MakeWordPieceText(vocabulary);
    case TokenizerSpec::Model::kUnigram:
      break;
  }
  return MakeUnigramText(vocabulary);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(TokenizerSpec spec) {
  const bool byte_level = spec.model == TokenizerSpec::Model::kByteBpe;
  const PreTokenizer* named = FindPreTokenizer(spec.pre_tokenizer);
  if (byte_level && spec.split_patterns.empty() && named != nullptr) {
    spec.ignore_merges |= named->ignore_merges;
    spec.nfc_normalize |= named->nfc_normalize;
  }
  // Words are written with the space before them, of which a text has none at its start.
  if (spec.model == TokenizerSpec::Model::kWordPiece) spec.add_space_prefix = true;
  absl::StatusOr<std::unique_ptr<Vocabulary>> vocabulary = Vocabulary::Create(std::move(spec));
  if (!vocabulary.ok()) return vocabulary.status();
  absl::StatusOr<std::unique_ptr<TextEncoder>> text_encoder = MakeTextEncoder(vocabulary->get());
  if (!text_encoder.ok()) return text_encoder.status();
  (*vocabulary)->DropMerges();
  return std::make_unique<ModelTokenizer>(*std::move(vocabulary), *std::move(text_encoder));
}

}  // namespace pregate
