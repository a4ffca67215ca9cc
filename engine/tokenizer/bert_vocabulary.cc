// BERT's own tokenizer file, from before tokenizer.json: vocab.txt, a token a line, ids in order.
// https://huggingface.co/docs/transformers/model_doc/bert#transformers.BertTokenizer has its
// defaults.
#include "absl/status/status.h"
#include "engine/tokenizer.h"
#include "engine/tokenizer/json_fields.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/utf8.h"
#include "engine/tokenizer/vocabulary.h"

namespace pregate {
namespace {

constexpr int kMaxWordCharacters = 100;

absl::StatusOr<Json> ReadLines(std::string_view text) {
  if (ValidUtf8Prefix(text) != text.size()) {
    return absl::InvalidArgumentError("vocab.txt: must be UTF-8; got other bytes");
  }
  Json vocab = Json::object();
  int32_t id = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view token = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (token.ends_with('\r')) token.remove_suffix(1);
    if (static_cast<size_t>(id) == kMaxVocabulary) {
      return absl::InvalidArgumentError(
          Cat("vocab.txt: must have at most ", kMaxVocabulary, " lines; got more"));
    }
    vocab[std::string(token)] = id++;  // of a token that stands twice, the later counts
  }
  return vocab;
}

// The name that tokenizer_config.json gives a special token, as text or as an object.
std::string SpecialName(const Json& config, const char* role, const char* otherwise) {
  const Json& value = Field(config, role);
  const std::string name = value.is_object() ? StringField(value, "content") : StringOf(value);
  return name.empty() ? otherwise : name;
}

Json Piece(const char* kind, const std::string& id, int type) {
  return {{kind, {{"id", id}, {"type_id", type}}}};
}

// [CLS] text [SEP], or [CLS] text [SEP] other [SEP].
Json Around(const Json& vocab, const std::string& begin, const std::string& end) {
  const Json text = Piece("Sequence", "A", 0), other = Piece("Sequence", "B", 1);
  const Json first = Piece("SpecialToken", begin, 0), last = Piece("SpecialToken", end, 0);
  Json tokens = Json::object();
  for (const std::string& name : {begin, end}) {
    tokens[name] = {{"id", name}, {"ids", {vocab[name]}}, {"tokens", {name}}};
  }
  return {{"type", "TemplateProcessing"},
          {"single", {first, text, last}},
          {"pair", {first, text, last, other, Piece("SpecialToken", end, 1)}},
          {"special_tokens", tokens}};
}

}  // namespace

absl::StatusOr<std::string> TokenizerJsonOfVocabulary(std::string_view vocab_txt,
                                                      std::string_view tokenizer_config_json) {
  absl::StatusOr<Json> vocab = ReadLines(vocab_txt);
  if (!vocab.ok()) return vocab.status();
  const Json config = Json::parse(tokenizer_config_json, nullptr, /*allow_exceptions=*/false);
  const std::string unknown = SpecialName(config, "unk_token", "[UNK]");
  const std::string begin = SpecialName(config, "cls_token", "[CLS]");
  const std::string end = SpecialName(config, "sep_token", "[SEP]");
  for (const std::string& name : {unknown, begin, end}) {
    if (vocab->contains(name)) continue;
    return absl::InvalidArgumentError(Cat("vocab.txt: must have a line ", name, "; got none"));
  }
  Json added = Json::array();
  for (const std::string& name : {unknown, begin, end, SpecialName(config, "pad_token", "[PAD]"),
                                  SpecialName(config, "mask_token", "[MASK]")}) {
    if (!vocab->contains(name)) continue;
    added.push_back({{"id", (*vocab)[name]}, {"content", name}, {"special", true}});
  }
  const Json& accents = Field(config, "strip_accents");
  const Json root = {{"added_tokens", added},
                     {"normalizer",
                      {{"type", "BertNormalizer"},
                       {"clean_text", true},
                       {"handle_chinese_chars", BoolField(config, "tokenize_chinese_chars", true)},
                       {"strip_accents", accents.is_boolean() ? accents : Json()},
                       {"lowercase", BoolField(config, "do_lower_case", true)}}},
                     {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
                     {"post_processor", Around(*vocab, begin, end)},
                     {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
                     {"model",
                      {{"type", "WordPiece"},
                       {"unk_token", unknown},
                       {"continuing_subword_prefix", "##"},
                       {"max_input_chars_per_word", kMaxWordCharacters},
                       {"vocab", *vocab}}}};
  return root.dump();
}

}  // namespace pregate
