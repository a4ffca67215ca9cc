// WordPiece (Wu et al. 2016, as BERT 1810.04805 cuts text): characters are simplified, words end at
// white space and around punctuation, and each word is the longest piece that it begins with, then
// the longest that what is left begins with, and so on.
#include <utf8proc.h>

#include <string>
#include <utility>
#include <vector>

#include "engine/tokenizer/bert_characters.h"
#include "engine/tokenizer/piece_trie.h"
#include "engine/tokenizer/text_encoder.h"
#include "engine/tokenizer/unicode_classes.h"
#include "engine/tokenizer/utf8.h"

namespace pregate {
namespace {

constexpr std::string_view kContinued = "##";

class WordPieceText : public TextEncoder {
 public:
  explicit WordPieceText(const Vocabulary* vocabulary)
      : vocabulary_(*vocabulary), beginnings_(Pieces("")), continuations_(Pieces(kContinued)) {}

  void Encode(std::string_view text, bool /*begins_text*/,
              std::vector<int32_t>* ids) const override {
    Word word;
    ForEachUtf8Stretch(
        text,
        [&](std::string_view valid) {
          while (!valid.empty()) {
            const auto [c, bytes] = DecodeUtf8(valid);
            AddCharacter(c, &word, ids);
            valid.remove_prefix(bytes);
          }
        },
        [&](uint8_t) {
          EndWord(&word, ids);
          vocabulary_.AppendUnknown(ids->size(), ids);
        });
    EndWord(&word, ids);
  }

 private:
  // The word that is being read, simplified.
  struct Word {
    std::string text;
    int32_t characters = 0;
  };

  void AddCharacter(char32_t c, Word* word, std::vector<int32_t>* ids) const {
    const TokenizerSpec& spec = vocabulary_.spec();
    if (spec.clean_text && IsBertControl(c)) return;
    if (IsWhiteSpace(c)) return EndWord(word, ids);
    const bool apart = spec.part_chinese && IsBertChinese(c);
    if (apart) EndWord(word, ids);
    spec.strip_accents ? AddWithoutMarks(c, word, ids) : AddSimple(c, word, ids);
    if (apart) EndWord(word, ids);
  }

  // The letters of which the character consists, without the marks above and below them.
  void AddWithoutMarks(char32_t c, Word* word, std::vector<int32_t>* ids) const {
    if (c < 0x80) return AddSimple(c, word, ids);
    constexpr auto kForm = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
    constexpr utf8proc_ssize_t kMost = 16;
    utf8proc_int32_t parts[kMost];
    utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, kMost, kForm, nullptr);
    if (count < 0 || count > kMost) {  // not assigned by this library's Unicode
      parts[0] = static_cast<utf8proc_int32_t>(c);
      count = 1;
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      if (IsBertMark(static_cast<char32_t>(parts[i]))) continue;
      AddSimple(static_cast<char32_t>(parts[i]), word, ids);
    }
  }

  void AddSimple(char32_t c, Word* word, std::vector<int32_t>* ids) const {
    if (vocabulary_.spec().lowercase) {
      if (c == 0x130) {  // the one letter that becomes two: i and a dot above
        AppendCharacter('i', word, ids);
        return AppendCharacter(0x307, word, ids);
      }
      c = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
    }
    AppendCharacter(c, word, ids);
  }

  void AppendCharacter(char32_t c, Word* word, std::vector<int32_t>* ids) const {
    const bool apart = IsBertPunctuation(c);
    if (apart) EndWord(word, ids);
    AppendUtf8(c, &word->text);
    ++word->characters;
    if (apart) EndWord(word, ids);
  }

  // Appends the pieces of the word, or the unknown token if it cannot be cut into any.
  void EndWord(Word* word, std::vector<int32_t>* ids) const {
    if (word->characters == 0) return;
    const size_t first = ids->size();
    bool known = word->characters <= vocabulary_.spec().max_word_characters;
    std::string& text = word->text;
    for (std::string_view rest = text; known && !rest.empty();) {
      const PieceTrie& pieces = rest.size() == text.size() ? beginnings_ : continuations_;
      const auto [bytes, id] = LongestPiece(pieces, rest);
      known = id != Vocabulary::kNoToken;
      if (known) ids->push_back(id);
      rest.remove_prefix(bytes);
    }
    if (!known) {
      ids->resize(first);
      vocabulary_.AppendUnknown(ids->size(), ids);
    }
    text.clear();
    word->characters = 0;
  }

  // The longest piece that `text` begins with, and its id.
  static std::pair<size_t, int32_t> LongestPiece(const PieceTrie& pieces, std::string_view text) {
    std::pair<size_t, int32_t> longest = {0, Vocabulary::kNoToken};
    pieces.ForEachPrefix(text, [&](size_t bytes, int32_t id) {
      const bool cuts_character =
          bytes < text.size() && (static_cast<uint8_t>(text[bytes]) & 0xC0) == 0x80;
      if (!cuts_character) longest = {bytes, id};
    });
    return longest;
  }

  // The tokens with this mark in front, without it.
  PieceTrie Pieces(std::string_view mark) const {
    std::vector<std::pair<std::string_view, int32_t>> pieces;
    const std::vector<std::string>& tokens = vocabulary_.spec().tokens;
    for (int32_t id = 0; id < vocabulary_.size(); ++id) {
      const std::string_view token = tokens[static_cast<size_t>(id)];
      const bool is_piece = token.size() > mark.size() && token.substr(0, mark.size()) == mark;
      if (is_piece && vocabulary_.CanBeMade(id)) {
        pieces.emplace_back(token.substr(mark.size()), id);
      }
    }
    return PieceTrie(std::move(pieces));
  }

  const Vocabulary& vocabulary_;
  const PieceTrie beginnings_, continuations_;
};

}  // namespace

std::unique_ptr<TextEncoder> MakeWordPieceText(const Vocabulary* vocabulary) {
  return std::make_unique<WordPieceText>(vocabulary);
}

}  // namespace pregate
