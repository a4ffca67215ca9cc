// Text to token ids and back, for the tokenizers that model files carry.
#ifndef PREGATE_ENGINE_TOKENIZER_H_
#define PREGATE_ENGINE_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pregate {

// Everything a model file says about its tokenizer, as plain data. Filled from GGUF metadata
// (`tokenizer.ggml.*`) or by ParseTokenizerJson.
struct TokenizerSpec {
  enum class Model : uint8_t {
    kByteBpe,           // byte-level BPE: GGUF "gpt2", Hugging Face BPE with ByteLevel
    kSentencePieceBpe,  // SentencePiece BPE by score with byte fallback: GGUF "llama"
    kMergedBpe,         // BPE by merges over characters with byte fallback: HF Llama 2, Gemma
    kWordPiece,         // the longest pieces of a word, first to last: GGUF "bert"
    kUnigram,           // SentencePiece's unigram model, likeliest pieces: GGUF "t5"
  };
  // GGUF `tokenizer.ggml.token_type`.
  enum TokenType : uint8_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,  // never produced from plain text, never shown
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6,  // "<0xXX>"
  };

  Model model = Model::kByteBpe;
  std::string pre_tokenizer;  // GGUF `tokenizer.ggml.pre`: "smollm", "llama-bpe", "qwen2", ...
  // A pre-tokeniser spelled out by tokenizer.json as regexes applied one after another, each match
  // and each gap a word; used instead of `pre_tokenizer` when not empty.
  std::vector<std::string> split_patterns;

  std::vector<std::string> tokens;   // [vocab] as the file spells them
  std::vector<float> scores;         // [vocab] or empty
  std::vector<uint8_t> token_types;  // [vocab] TokenType, or empty: all normal
  std::vector<std::pair<std::string, std::string>> merges;  // in order of rank

  std::optional<int32_t> bos_id, eos_id, unknown_id;
  std::vector<int32_t> end_of_turn_ids;  // other ids that end an answer: <|im_end|>, <end_of_turn>
  bool add_bos = false;
  bool add_eos = false;
  // SentencePiece's dummy prefix: each stretch of text between added tokens gets a space in front.
  bool add_space_prefix = false;
  bool prefix_first_only = false;    // ... only the stretch that begins the text
  bool prefix_unless_space = false;  // ... only a stretch that does not begin with a space
  bool ignore_merges = false;        // Llama 3: a word that is a token is taken whole
  bool nfc_normalize = false;        // Qwen 2
  bool fuse_unknown = true;          // neighbours that are not in the vocabulary give one token
  // Added tokens that swallow the white space before / after them (HF lstrip, rstrip).
  std::vector<int32_t> strip_before_ids, strip_after_ids;

  // What stands between the two texts of a pair; BOS and EOS, as the file asks for, stand around
  // it. Empty: the tokenizer makes no pairs.
  std::vector<int32_t> pair_separators;

  // WordPiece. Pieces that continue a word carry "##". What happens to a text before it is cut into
  // words (BertNormalizer): control characters go, Chinese characters stand alone, marks above and
  // below letters go, letters become small.
  bool clean_text = true;
  bool part_chinese = true;
  bool strip_accents = true;
  bool lowercase = true;
  int32_t max_word_characters = 100;  // longer words are unknown

  // Unigram. `charsmap`: SentencePiece's precompiled rules that rewrite characters, or "".
  std::string charsmap;
  bool collapse_spaces = false;                  // runs of spaces count as one
  bool strip_left = false, strip_right = false;  // those at the ends as none
  bool split_whitespace = false;  // words end at every white space, which then counts as none
  bool cut_words = false;         // no token reaches over a space, even if the vocabulary has some
};

// Reads tokenizer.json (and the optional tokenizer_config.json and generation_config.json texts).
// FAILED_PRECONDITION names what is not supported; INVALID_ARGUMENT what is broken.
absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view tokenizer_json,
                                                 std::string_view tokenizer_config_json,
                                                 std::string_view generation_config_json);

// What tokenizer.json would say of a BERT tokenizer that has only vocab.txt. INVALID_ARGUMENT when
// that is not UTF-8, is too long, or lacks the unknown token or those around a text.
absl::StatusOr<std::string> TokenizerJsonOfVocabulary(std::string_view vocab_txt,
                                                      std::string_view tokenizer_config_json);

// Adds the tokens that public chat formats end a turn with ("<|im_end|>", "<end_of_turn>", ...) to
// `end_of_turn_ids`, sorted, whatever the file says of EOS. They become control tokens, since text
// that spells one must not end an answer. For the readers of model files.
void MarkEndOfTurnTokens(TokenizerSpec* spec);

// Immutable, safe to share between threads.
class Tokenizer {
 public:
  // FAILED_PRECONDITION when the spec cannot be served (unknown pre-tokeniser, a token missing that
  // a merge needs, duplicate tokens, ...); reliability row E11.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(TokenizerSpec spec);
  virtual ~Tokenizer() = default;

  struct EncodeOptions {
    bool add_special = true;     // BOS / EOS as the file asks for
    bool parse_special = false;  // "<|im_start|>" in the text becomes its control token
  };
  // Any bytes are accepted. A byte that is not part of a valid UTF-8 character becomes its own byte
  // token, or the unknown token where the vocabulary has none (nothing where it has neither), and
  // parts the text: what stands on either side is encoded by itself. Control and unknown tokens
  // come out of plain text only with `parse_special`; user-defined tokens are always matched. Of
  // these the match that starts first, then the longest, wins. Time O(n log n), memory O(n) in the
  // length of `text`.
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const {
    return EncodeParts({{text, options.parse_special}}, options.add_special);
  }

  // A stretch of a text whose author may or may not write control tokens.
  struct TextPart {
    std::string_view text;
    bool parse_special = false;
  };
  // Encodes the parts as the one text that they are together: a word may begin in one part and end
  // in the next. Only a control token that lies whole within a part with `parse_special` is read.
  virtual std::vector<int32_t> EncodeParts(absl::Span<const TextPart> parts,
                                           bool add_special) const = 0;

  // The bytes of one token: may be part of a character. Control and unknown tokens give "" unless
  // `show_special`. `id` must be below vocab_size().
  virtual std::string TokenBytes(int32_t id, bool show_special = false) const = 0;

  // Text of a whole sequence (with SentencePiece's first space removed). Bytes that form no
  // character become U+FFFD, one for each maximal part of a character (Unicode 15, section 3.9).
  virtual std::string Decode(absl::Span<const int32_t> ids, bool show_special = false) const = 0;

  // Two texts as a cross-encoder reads them, [CLS] a [SEP] b [SEP].
  struct Pair {
    std::vector<int32_t> ids;
    int32_t second_begin = 0;  // ids from here on belong to the second text
  };
  bool makes_pairs() const { return !spec().pair_separators.empty(); }
  // From the ids of the two without special tokens, which may have been cut to fit; those of two
  // empty texts are the tokens that every pair has beside them. Only if makes_pairs().
  Pair JoinPair(absl::Span<const int32_t> first, absl::Span<const int32_t> second) const;
  Pair EncodePair(std::string_view first, std::string_view second,
                  bool parse_special = false) const {
    return JoinPair(EncodeParts({{first, parse_special}}, false),
                    EncodeParts({{second, parse_special}}, false));
  }

  virtual int32_t vocab_size() const = 0;
  // What the tokenizer was made of, without the merges, which are dropped to save memory.
  virtual const TokenizerSpec& spec() const = 0;
  // Ids that end an answer, ascending: EOS and the end-of-turn tokens.
  virtual absl::Span<const int32_t> stop_ids() const = 0;
  // Id of the token that is spelled exactly so, control tokens included.
  virtual std::optional<int32_t> FindToken(std::string_view token) const = 0;
};

// Turns a growing sequence of ids into text, one id at a time, whole characters only.
class IncrementalDetokenizer {
 public:
  explicit IncrementalDetokenizer(const Tokenizer* tokenizer, bool show_special = false)
      : tokenizer_(tokenizer), show_special_(show_special) {}

  // The text that `id` completes; "" while a character is still cut. Broken bytes are given out as
  // U+FFFD as soon as they can no longer become a character.
  std::string Add(int32_t id);
  // What is still held back, as U+FFFD, at the end of the answer.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  bool show_special_;
  bool started_ = false;
  std::string pending_;  // bytes of a character that is not yet whole
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_H_
