// SentencePiece's unigram model (Kudo 2018, 1804.10959): of all ways to cut a text into tokens the
// one whose scores, logarithms of probabilities, add up to most. Found by dynamic programming over
// the characters, in time O(n * longest token).
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "engine/tokenizer/charsmap.h"
#include "engine/tokenizer/piece_trie.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/text_encoder.h"
#include "engine/tokenizer/unicode_classes.h"
#include "engine/tokenizer/utf8.h"

namespace pregate {
namespace {

// How much worse than the worst token a character is that no token holds.
constexpr double kUnknownPenalty = 10.0;

class UnigramText : public TextEncoder {
 public:
  UnigramText(const Vocabulary* vocabulary, Charsmap charsmap, PieceTrie trie, double worst,
              bool cuts_words)
      : vocabulary_(*vocabulary),
        charsmap_(std::move(charsmap)),
        trie_(std::move(trie)),
        unknown_score_(worst - kUnknownPenalty),
        cuts_words_(cuts_words) {}

  void Encode(std::string_view text, bool begins_text, std::vector<int32_t>* ids) const override {
    ForEachUtf8Stretch(
        text,
        [&](std::string_view valid) {
          EncodeValid(valid, begins_text, ids);
          begins_text = false;
        },
        [&](uint8_t byte) {
          const char c = static_cast<char>(byte);
          AppendUnknown(std::string_view(&c, 1), ids->size(), ids);
          begins_text = false;
        });
  }

 private:
  struct Best {
    double score = -std::numeric_limits<double>::infinity();  // of the text up to here
    uint32_t bytes = 0;                                       // of its last token
    int32_t id = Vocabulary::kNoToken;                        // of that, or a single character
  };

  void EncodeValid(std::string_view valid, bool begins_text, std::vector<int32_t>* ids) const {
    const TokenizerSpec& spec = vocabulary_.spec();
    const std::string text = Arrange(charsmap_.Normalize(valid));
    std::vector<Best> scratch;
    if (spec.split_whitespace) {
      ForEachWord(text, [&](std::string_view word) {
        EncodeWord(WithPrefix(word, begins_text), &scratch, ids);
        begins_text = false;
      });
      return;
    }
    const std::string marked = WithPrefix(text, begins_text);
    for (size_t start = 0; start < marked.size();) {
      size_t end = cuts_words_ ? marked.find(kVisibleSpace, start + 1) : std::string::npos;
      end = std::min(end, marked.size());
      EncodeWord(std::string_view(marked).substr(start, end - start), &scratch, ids);
      start = end;
    }
  }

  // Spaces as the file wants them: runs as one, none at the ends.
  std::string Arrange(std::string text) const {
    const TokenizerSpec& spec = vocabulary_.spec();
    if (spec.collapse_spaces) {
      const auto both_spaces = [](char a, char b) { return a == ' ' && b == ' '; };
      text.erase(std::unique(text.begin(), text.end(), both_spaces), text.end());
    }
    if (spec.strip_left) text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
    if (spec.strip_right) text.erase(text.find_last_not_of(' ') + 1);
    return text;
  }

  template <typename Visit>
  static void ForEachWord(std::string_view text, Visit visit) {
    size_t start = 0, at = 0;
    while (at < text.size()) {
      const auto [c, bytes] = DecodeUtf8(text.substr(at));
      if (IsWhiteSpace(c)) {
        if (at > start) visit(text.substr(start, at - start));
        start = at + bytes;
      }
      at += bytes;
    }
    if (at > start) visit(text.substr(start));
  }

  // With visible spaces, one of them in front where the file asks for it.
  std::string WithPrefix(std::string_view text, bool begins_text) const {
    std::string marked = SpacesToVisible(text);
    if (!marked.empty() && WantsSpacePrefix(vocabulary_.spec(), marked, begins_text)) {
      marked.insert(0, kVisibleSpace);
    }
    return marked;
  }

  // Appends the best tokens of `word`.
  void EncodeWord(std::string_view word, std::vector<Best>* scratch,
                  std::vector<int32_t>* ids) const {
    std::vector<Best>& best = *scratch;
    best.assign(word.size() + 1, Best());
    best[0].score = 0;
    for (size_t start = 0; start < word.size();) {
      const size_t character = DecodeUtf8(word.substr(start)).second;
      const double so_far = best[start].score;
      bool character_is_token = false;
      const auto offer = [&](size_t bytes, int32_t id, double score) {
        Best& target = best[start + bytes];
        if (so_far + score > target.score) {
          target = {so_far + score, static_cast<uint32_t>(bytes), id};
        }
        character_is_token |= bytes == character;
      };
      trie_.ForEachPrefix(word.substr(start), [&](size_t bytes, int32_t id) {
        offer(bytes, id, double{vocabulary_.spec().scores[static_cast<size_t>(id)]});
      });
      if (!character_is_token) offer(character, Vocabulary::kNoToken, unknown_score_);
      start += character;
    }
    AppendPath(word, best, ids);
  }

  void AppendPath(std::string_view word, const std::vector<Best>& best,
                  std::vector<int32_t>* ids) const {
    std::vector<size_t> ends;
    for (size_t end = word.size(); end > 0; end -= best[end].bytes) ends.push_back(end);
    const size_t first = ids->size();
    for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
      const Best& token = best[*end];
      if (token.id != Vocabulary::kNoToken) {
        ids->push_back(token.id);
      } else {
        AppendUnknown(word.substr(*end - token.bytes, token.bytes), first, ids);
      }
    }
  }

  // As bytes where the vocabulary has them all, else as the unknown token.
  void AppendUnknown(std::string_view bytes, size_t first, std::vector<int32_t>* ids) const {
    const bool has_all = std::all_of(bytes.begin(), bytes.end(), [&](char c) {
      return vocabulary_.ByteToken(static_cast<uint8_t>(c)) != Vocabulary::kNoToken;
    });
    if (!has_all) return vocabulary_.AppendUnknown(first, ids);
    for (const char c : bytes) ids->push_back(vocabulary_.ByteToken(static_cast<uint8_t>(c)));
  }

  const Vocabulary& vocabulary_;
  const Charsmap charsmap_;
  const PieceTrie trie_;
  const double unknown_score_;
  const bool cuts_words_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TextEncoder>> MakeUnigramText(const Vocabulary* vocabulary) {
  const TokenizerSpec& spec = vocabulary->spec();
  if (spec.scores.empty()) {
    return absl::FailedPreconditionError(
        "tokenizer.scores: must be given for a unigram vocabulary; got none");
  }
  absl::StatusOr<Charsmap> charsmap = Charsmap::Parse(spec.charsmap);
  if (!charsmap.ok()) return charsmap.status();
  std::vector<std::pair<std::string_view, int32_t>> pieces;
  double worst = 0;
  bool reaches_over_space = false;
  for (int32_t id = 0; id < vocabulary->size(); ++id) {
    const std::string& token = spec.tokens[static_cast<size_t>(id)];
    if (!vocabulary->CanBeMade(id) || token.empty()) continue;
    const float score = spec.scores[static_cast<size_t>(id)];
    if (!(score >= -1e6f && score <= 1e6f)) {
      return absl::FailedPreconditionError(
          Cat("tokenizer.scores[", id, "]: must be in [-1e6, 1e6]; got ", score));
    }
    pieces.emplace_back(token, id);
    worst = std::min(worst, double{score});
    reaches_over_space |= token.find(kVisibleSpace, 1) != std::string::npos;
  }
  return std::make_unique<UnigramText>(vocabulary, *std::move(charsmap),
                                       PieceTrie(std::move(pieces)), worst,
                                       spec.cut_words || !reaches_over_space);
}

}  // namespace pregate
