#include <algorithm>
#include <array>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "engine/tokenizer.h"
#include "engine/tokenizer/json_fields.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/tokenizer_json_pipeline.h"
#include "engine/tokenizer/vocabulary.h"

namespace pregate {
namespace {

constexpr int kMaxDepth = 64;

absl::Status Invalid(std::string_view field, std::string_view rule, std::string_view got) {
  return absl::InvalidArgumentError(Cat(field, ": ", rule, "; got ", got));
}

// Whether brackets outside of strings nest at most kMaxDepth deep.
bool IsShallow(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
      continue;
    }
    in_string = c == '"';
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > kMaxDepth) return false;
  }
  return true;
}

// Parses an object; an empty text is JSON null.
absl::StatusOr<Json> ParseObject(std::string_view name, std::string_view text) {
  if (text.empty()) return Json();
  if (!IsShallow(text)) {
    return Invalid(name, Cat("nests at most ", kMaxDepth, " deep"), "more");
  }
  Json parsed = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return Invalid(name, "must be a JSON object", "something else");
  return parsed;
}

absl::Status CheckModel(const Json& model) {
  const std::string type = StringField(model, "type");
  if (type != "BPE" && !(type.empty() && Field(model, "merges").is_array())) {
    return absl::FailedPreconditionError(
        Cat("tokenizer.json model.type: must be BPE, WordPiece or Unigram; got ", type));
  }
  for (const char* option : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!StringField(model, option).empty()) {
      return absl::FailedPreconditionError(Cat(
          "tokenizer.json model.", option, ": must be empty; got ", StringField(model, option)));
    }
  }
  return absl::OkStatus();
}

// Puts `token` at its id; the spec grows to hold it.
absl::Status PlaceToken(const std::string& token, const Json& id_value, TokenizerSpec* spec) {
  const int32_t id = IdOf(id_value, kMaxVocabulary);
  if (id < 0) {
    return Invalid("tokenizer.json vocab", Cat("ids must be 0 to ", kMaxVocabulary - 1),
                   id_value.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  if (static_cast<size_t>(id) >= spec->tokens.size()) {
    spec->tokens.resize(id + 1);
    // A gap between ids stays kUnused.
    spec->token_types.resize(id + 1, TokenizerSpec::kUnused);
  }
  if (spec->token_types[id] != TokenizerSpec::kUnused && spec->tokens[id] != token) {
    return Invalid("tokenizer.json vocab", Cat("one token for id ", id),
                   Cat("\"", spec->tokens[id], "\" and \"", token, "\""));
  }
  spec->tokens[id] = token;
  spec->token_types[id] = TokenizerSpec::kNormal;
  return absl::OkStatus();
}

absl::Status ReadVocabulary(const Json& model, TokenizerSpec* spec) {
  const Json& vocab = Field(model, "vocab");
  if (!vocab.is_object() || vocab.empty()) {
    return Invalid("tokenizer.json model.vocab", "must be an object with tokens", "something else");
  }
  for (const auto& [token, id] : vocab.items()) {
    if (absl::Status status = PlaceToken(token, id, spec); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(const Json& model, TokenizerSpec* spec) {
  const Json& merges = Field(model, "merges");
  if (!merges.is_array()) {
    return Invalid("tokenizer.json model.merges", "must be an array", "something else");
  }
  spec->merges.reserve(merges.size());
  for (const Json& merge : merges) {
    if (merge.is_array() && merge.size() == 2) {
      spec->merges.emplace_back(StringOf(merge[0]), StringOf(merge[1]));
      continue;
    }
    const std::string text = StringOf(merge);
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      return Invalid(Cat("tokenizer.json model.merges[", spec->merges.size(), "]"),
                     "must be two tokens with a space between them", text);
    }
    spec->merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return absl::OkStatus();
}

// All of a BPE file but its added tokens and its post_processor.
absl::Status ParseBpe(const Json& root, TokenizerSpec* spec) {
  const Json& model = Field(root, "model");
  absl::Status status = CheckModel(model);
  if (status.ok()) status = ReadVocabulary(model, spec);
  if (status.ok()) status = ReadMerges(model, spec);
  if (status.ok()) status = ParsePreTokenizer(root, spec);
  if (status.ok()) status = ParseNormalizer(root, spec);
  if (status.ok()) status = CheckDecoder(root, *spec);
  return status;
}

absl::Status ReadAddedToken(const Json& added, TokenizerSpec* spec) {
  const std::string content = StringField(added, "content");
  if (content.empty()) {
    return Invalid("tokenizer.json added_tokens", "content must not be empty", "\"\"");
  }
  if (BoolField(added, "single_word", false)) {
    return absl::FailedPreconditionError(
        Cat("tokenizer.json added_tokens: single_word is not supported; got ", content));
  }
  if (absl::Status status = PlaceToken(content, Field(added, "id"), spec); !status.ok()) {
    return status;
  }
  const int32_t id = IdOf(Field(added, "id"), kMaxVocabulary);
  const bool special = BoolField(added, "special", false);
  spec->token_types[id] = special ? TokenizerSpec::kControl : TokenizerSpec::kUserDefined;
  if (BoolField(added, "lstrip", false)) spec->strip_before_ids.push_back(id);
  if (BoolField(added, "rstrip", false)) spec->strip_after_ids.push_back(id);
  return absl::OkStatus();
}

void SpellGaps(TokenizerSpec* spec) {
  for (size_t id = 0; id < spec->tokens.size(); ++id) {
    if (spec->token_types[id] == TokenizerSpec::kUnused) {
      spec->tokens[id] = Cat("<unused id ", id, ">");
    }
  }
}

std::optional<int32_t> IdOfToken(const TokenizerSpec& spec, std::string_view token) {
  const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), token);
  if (token.empty() || found == spec.tokens.end()) return std::nullopt;
  return static_cast<int32_t>(found - spec.tokens.begin());
}

void MarkByteTokens(TokenizerSpec* spec) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string spelling =
        Cat("<0x", absl::AsciiStrToUpper(Cat(absl::Hex(byte, absl::kZeroPad2))), ">");
    if (const auto id = IdOfToken(*spec, spelling)) spec->token_types[*id] = TokenizerSpec::kByte;
  }
}

void ReadUnknown(const Json& model, TokenizerSpec* spec) {
  const int32_t by_number = IdOf(Field(model, "unk_id"), static_cast<int32_t>(spec->tokens.size()));
  spec->unknown_id = by_number >= 0 ? std::optional<int32_t>(by_number)
                                    : IdOfToken(*spec, StringField(model, "unk_token"));
  if (spec->unknown_id.has_value()) spec->token_types[*spec->unknown_id] = TokenizerSpec::kUnknown;
  spec->fuse_unknown = BoolField(model, "fuse_unk", by_number >= 0);
  spec->ignore_merges = BoolField(model, "ignore_merges", false);
}

// "<s>", or {"content": "<s>", ...}.
std::string TokenName(const Json& value) {
  return value.is_object() ? StringField(value, "content") : StringOf(value);
}

void ReadSpecialTokens(const SequenceTemplate& around, const Json& config, const Json& generation,
                       TokenizerSpec* spec) {
  const int32_t size = static_cast<int32_t>(spec->tokens.size());
  const auto choose = [&](std::string_view from_template, const char* name) {
    const auto id = IdOfToken(*spec, from_template);
    return id.has_value() ? id : IdOfToken(*spec, TokenName(Field(config, name)));
  };
  spec->bos_id = choose(around.before, "bos_token");
  spec->eos_id = choose(around.after, "eos_token");
  const Json& ends = Field(generation, "eos_token_id");
  for (const Json& end : ends.is_array() ? ends : Json::array({ends})) {
    const int32_t id = IdOf(end, size);
    if (id < 0) continue;
    spec->end_of_turn_ids.push_back(id);
    if (!spec->eos_id.has_value()) spec->eos_id = id;
  }
  MarkEndOfTurnTokens(spec);
  spec->add_bos =
      spec->bos_id.has_value() && BoolField(config, "add_bos_token", !around.before.empty());
  for (const std::string& separator : around.between) {
    const auto id = IdOfToken(*spec, separator);
    if (!id.has_value()) {  // then there are no pairs, rather than wrong ones
      spec->pair_separators.clear();
      break;
    }
    spec->pair_separators.push_back(*id);
  }
  spec->add_eos =
      spec->eos_id.has_value() && BoolField(config, "add_eos_token", !around.after.empty());
}

}  // namespace

absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view tokenizer_json,
                                                 std::string_view tokenizer_config_json,
                                                 std::string_view generation_config_json) {
  const absl::StatusOr<Json> root = ParseObject("tokenizer.json", tokenizer_json);
  const absl::StatusOr<Json> config = ParseObject("tokenizer_config.json", tokenizer_config_json);
  const absl::StatusOr<Json> generation =
      ParseObject("generation_config.json", generation_config_json);
  for (const auto* parsed : {&root, &config, &generation}) {
    if (!parsed->ok()) return parsed->status();
  }

  TokenizerSpec spec;
  SequenceTemplate around;
  const Json& model = Field(*root, "model");
  const std::string type = StringField(model, "type");
  absl::Status status = type == "WordPiece" ? ReadVocabulary(model, &spec)
                        : type == "Unigram" ? absl::OkStatus()
                                            : ParseBpe(*root, &spec);
  if (status.ok() && type == "WordPiece") status = ParseWordPiece(*root, &spec);
  if (status.ok() && type == "Unigram") status = ParseUnigram(*root, &spec);
  if (status.ok()) status = ParsePostProcessor(*root, &around);
  if (!status.ok()) return status;
  for (const Json& added : Field(*root, "added_tokens")) {
    if (status = ReadAddedToken(added, &spec); !status.ok()) return status;
  }
  SpellGaps(&spec);
  if (!spec.scores.empty()) spec.scores.resize(spec.tokens.size(), 0.0f);
  if (BoolField(model, "byte_fallback", false)) MarkByteTokens(&spec);
  ReadUnknown(model, &spec);
  ReadSpecialTokens(around, *config, *generation, &spec);
  return spec;
}

}  // namespace pregate
