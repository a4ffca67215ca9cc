// The models of encoders in tokenizer.json: WordPiece and Unigram, with the steps around them.
#include <cmath>

#include "absl/strings/escaping.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/tokenizer_json_pipeline.h"
#include "engine/tokenizer/vocabulary.h"

namespace pregate {
namespace {

constexpr int32_t kMaxWordCharacters = 10'000;

absl::Status Invalid(std::string_view field, std::string_view rule, std::string_view got) {
  return absl::InvalidArgumentError(Cat("tokenizer.json ", field, ": ", rule, "; got ", got));
}

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::Status ReadBertNormalizer(const Json& root, TokenizerSpec* spec) {
  spec->clean_text = spec->part_chinese = spec->strip_accents = spec->lowercase = false;
  for (const Json* step : StepsOf(Field(root, "normalizer"), "normalizers")) {
    const std::string type = StringField(*step, "type");
    if (type != "BertNormalizer") return UnsupportedComponent("normalizer.type", type);
    spec->clean_text = BoolField(*step, "clean_text", true);
    spec->part_chinese = BoolField(*step, "handle_chinese_chars", true);
    spec->lowercase = BoolField(*step, "lowercase", true);
    spec->strip_accents = BoolField(*step, "strip_accents", spec->lowercase);
  }
  return absl::OkStatus();
}

// Pairs of a token and its score; the place of a pair is the id.
absl::Status ReadScoredVocabulary(const Json& model, TokenizerSpec* spec) {
  const Json& vocab = Field(model, "vocab");
  if (!vocab.is_array() || vocab.empty() || vocab.size() > kMaxVocabulary) {
    return Invalid("model.vocab", "must be an array of tokens with scores", "something else");
  }
  for (const Json& entry : vocab) {
    const bool pair =
        entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number();
    if (!pair) {
      return Invalid(Cat("model.vocab[", spec->tokens.size(), "]"), "must be a token and a score",
                     Dump(entry).substr(0, 64));
    }
    const double score =
        entry[1].is_number_float()
            ? *entry[1].get_ptr<const Json::number_float_t*>()
            : static_cast<double>(*entry[1].get_ptr<const Json::number_integer_t*>());
    if (!(std::fabs(score) <= 1e6)) {
      return Invalid(Cat("model.vocab[", spec->tokens.size(), "]"), "score must be in [-1e6, 1e6]",
                     Dump(entry[1]).substr(0, 64));
    }
    spec->tokens.push_back(StringOf(entry[0]));
    spec->scores.push_back(static_cast<float>(score));
  }
  spec->token_types.assign(spec->tokens.size(), TokenizerSpec::kNormal);
  return absl::OkStatus();
}

absl::Status AddUnigramNormalizer(const Json& step, TokenizerSpec* spec) {
  const std::string type = StringField(step, "type");
  if (type == "Precompiled") {
    std::string blob;
    if (!absl::Base64Unescape(StringField(step, "precompiled_charsmap"), &blob)) {
      return Invalid("normalizer.precompiled_charsmap", "must be Base64", "something else");
    }
    spec->charsmap = std::move(blob);
    return absl::OkStatus();
  }
  if (type == "Strip") {
    spec->strip_left |= BoolField(step, "strip_left", true);
    spec->strip_right |= BoolField(step, "strip_right", true);
    return absl::OkStatus();
  }
  const std::string content = StringField(step, "content");
  const bool collapses = StringField(Field(step, "pattern"), "Regex") == " {2,}" &&
                         (content == " " || content == kVisibleSpace);
  if (type != "Replace" || !collapses) return UnsupportedComponent("normalizer", Dump(step));
  spec->collapse_spaces = true;
  return absl::OkStatus();
}

absl::Status AddUnigramPreTokenizer(const Json& step, TokenizerSpec* spec) {
  const std::string type = StringField(step, "type");
  if (type == "WhitespaceSplit") {
    spec->split_whitespace = true;
    return absl::OkStatus();
  }
  if (type != "Metaspace") return UnsupportedComponent("pre_tokenizer.type", type);
  if (StringField(step, "replacement") != kVisibleSpace) {
    return UnsupportedComponent("pre_tokenizer.replacement", StringField(step, "replacement"));
  }
  std::string scheme = StringField(step, "prepend_scheme");
  if (scheme.empty()) scheme = BoolField(step, "add_prefix_space", true) ? "always" : "never";
  spec->add_space_prefix = scheme != "never";
  spec->prefix_first_only = scheme == "first";
  spec->prefix_unless_space = true;
  spec->cut_words = BoolField(step, "split", true);
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseWordPiece(const Json& root, TokenizerSpec* spec) {
  const Json& model = Field(root, "model");
  spec->model = TokenizerSpec::Model::kWordPiece;
  const Json& prefix = Field(model, "continuing_subword_prefix");
  if (!prefix.is_null() && StringOf(prefix) != "##") {
    return UnsupportedComponent("model.continuing_subword_prefix", Dump(prefix));
  }
  const Json& most = Field(model, "max_input_chars_per_word");
  if (!most.is_null()) {
    spec->max_word_characters = IdOf(most, kMaxWordCharacters + 1);
    if (spec->max_word_characters < 1) {
      return Invalid("model.max_input_chars_per_word", Cat("must be 1 to ", kMaxWordCharacters),
                     Dump(most));
    }
  }
  if (absl::Status status = ReadBertNormalizer(root, spec); !status.ok()) return status;
  const std::vector<const Json*> words = StepsOf(Field(root, "pre_tokenizer"), "pretokenizers");
  if (words.size() != 1 || StringField(*words[0], "type") != "BertPreTokenizer") {
    return UnsupportedComponent("pre_tokenizer", Dump(Field(root, "pre_tokenizer")));
  }
  for (const Json* step : StepsOf(Field(root, "decoder"), "decoders")) {
    const std::string type = StringField(*step, "type");
    if (type != "WordPiece") return UnsupportedComponent("decoder.type", type);
  }
  return absl::OkStatus();
}

absl::Status ParseUnigram(const Json& root, TokenizerSpec* spec) {
  spec->model = TokenizerSpec::Model::kUnigram;
  absl::Status status = ReadScoredVocabulary(Field(root, "model"), spec);
  for (const Json* step : StepsOf(Field(root, "normalizer"), "normalizers")) {
    if (status.ok()) status = AddUnigramNormalizer(*step, spec);
  }
  const std::vector<const Json*> steps = StepsOf(Field(root, "pre_tokenizer"), "pretokenizers");
  for (const Json* step : steps) {
    if (status.ok()) status = AddUnigramPreTokenizer(*step, spec);
  }
  if (status.ok() && steps.empty()) status = UnsupportedComponent("pre_tokenizer", "none");
  for (const Json* step : StepsOf(Field(root, "decoder"), "decoders")) {
    const std::string type = StringField(*step, "type");
    const bool known = type == "Metaspace" || type == "Replace" || type == "ByteFallback" ||
                       type == "Fuse" || type == "Strip";
    if (status.ok() && !known) status = UnsupportedComponent("decoder.type", type);
  }
  return status;
}

}  // namespace pregate
