#include "engine/tokenizer/tokenizer_json_pipeline.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "engine/tokenizer/pre_tokenizers.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/vocabulary.h"

namespace pregate {

absl::Status UnsupportedComponent(std::string_view where, std::string_view what) {
  return absl::FailedPreconditionError(
      Cat("tokenizer.json ", where, ": not supported; got ", what));
}

std::vector<const Json*> StepsOf(const Json& component, const char* members) {
  std::vector<const Json*> steps;
  if (component.is_null()) return steps;
  if (StringField(component, "type") != "Sequence") return {&component};
  for (const Json& step : Field(component, members)) steps.push_back(&step);
  return steps;
}

namespace {

std::string EscapeRegex(std::string_view literal) {
  std::string escaped;
  for (const char c : literal) {
    if (static_cast<unsigned char>(c) < 0x80 && !absl::ascii_isalnum(c)) escaped.push_back('\\');
    escaped.push_back(c);
  }
  return escaped;
}

absl::Status AddSplit(const Json& step, TokenizerSpec* spec) {
  // With "Isolated" matches and gaps are all kept, so that `invert` changes nothing.
  const std::string behavior = StringField(step, "behavior");
  if (behavior != "Isolated") return UnsupportedComponent("pre_tokenizer.behavior", behavior);
  const Json& pattern = Field(step, "pattern");
  const Json& regex = Field(pattern, "Regex");
  spec->split_patterns.push_back(regex.is_string() ? StringOf(regex)
                                                   : EscapeRegex(StringField(pattern, "String")));
  return absl::OkStatus();
}

absl::Status AddPunctuation(const Json& step, TokenizerSpec* spec) {
  constexpr std::string_view kPunctuation = R"([\p{P}$+<=>\^`|~])";
  const std::string behavior = StringField(step, "behavior");
  if (behavior != "Isolated" && behavior != "Contiguous" && !behavior.empty()) {
    return UnsupportedComponent("pre_tokenizer.behavior", behavior);
  }
  spec->split_patterns.push_back(Cat(kPunctuation, behavior == "Contiguous" ? "+" : ""));
  return absl::OkStatus();
}

absl::Status AddByteLevel(const Json& step, bool is_first, TokenizerSpec* spec) {
  if (BoolField(step, "add_prefix_space", true)) {
    if (!is_first)
      return UnsupportedComponent("pre_tokenizer.add_prefix_space", "true after other steps");
    spec->add_space_prefix = spec->prefix_unless_space = true;
  }
  if (BoolField(step, "use_regex", true)) spec->split_patterns.emplace_back(kGpt2Pattern);
  return absl::OkStatus();
}

absl::Status AddByteLevelStep(const Json& step, bool is_first, TokenizerSpec* spec) {
  const std::string type = StringField(step, "type");
  if (type == "ByteLevel") return AddByteLevel(step, is_first, spec);
  if (type == "Split") return AddSplit(step, spec);
  if (type == "Punctuation") return AddPunctuation(step, spec);
  if (type == "Digits") {
    const bool individual = BoolField(step, "individual_digits", false);
    spec->split_patterns.emplace_back(individual ? R"(\p{N})" : R"(\p{N}+)");
    return absl::OkStatus();
  }
  return UnsupportedComponent("pre_tokenizer.type", type);
}

absl::Status AddMetaspace(const Json& step, TokenizerSpec* spec) {
  if (StringField(step, "replacement") != kVisibleSpace) {
    return UnsupportedComponent("pre_tokenizer.replacement", StringField(step, "replacement"));
  }
  if (BoolField(step, "split", true)) return UnsupportedComponent("pre_tokenizer.split", "true");
  std::string scheme = StringField(step, "prepend_scheme");
  if (scheme.empty()) scheme = BoolField(step, "add_prefix_space", true) ? "always" : "never";
  spec->add_space_prefix = scheme != "never";
  spec->prefix_first_only = scheme == "first";
  spec->prefix_unless_space = true;
  return absl::OkStatus();
}

// A pre-tokeniser of a vocabulary over characters.
absl::Status AddCharacterStep(const Json& step, TokenizerSpec* spec) {
  const std::string type = StringField(step, "type");
  if (type == "Metaspace") return AddMetaspace(step, spec);
  // Gemma splits at spaces, of which its normalizer has left none.
  const bool at_spaces = StringField(Field(step, "pattern"), "String") == " ";
  if (type == "Split" && at_spaces) return absl::OkStatus();
  return UnsupportedComponent("pre_tokenizer.type", type);
}

bool IsByteLevel(const std::vector<const Json*>& steps) {
  for (const Json* step : steps) {
    if (StringField(*step, "type") == "ByteLevel") return true;
  }
  return false;
}

absl::Status AddNormalizer(const Json& step, TokenizerSpec* spec) {
  const std::string type = StringField(step, "type");
  const bool characters = spec->model == TokenizerSpec::Model::kMergedBpe;
  if (type == "NFC") {
    spec->nfc_normalize = true;
    return absl::OkStatus();
  }
  if (type == "Prepend" && characters && StringField(step, "prepend") == kVisibleSpace) {
    spec->add_space_prefix = true;
    return absl::OkStatus();
  }
  const bool escapes_spaces = StringField(Field(step, "pattern"), "String") == " " &&
                              StringField(step, "content") == kVisibleSpace;
  if (type == "Replace" && characters && escapes_spaces) return absl::OkStatus();
  return UnsupportedComponent("normalizer",
                              step.dump(-1, ' ', false, Json::error_handler_t::replace));
}

// Whether a template step is a text; else `token` is the special token that it is.
bool IsText(const Json& step, std::string* token) {
  if (Field(step, "Sequence").is_object()) return true;
  *token = StringField(Field(step, "SpecialToken"), "id");
  return false;
}

// What the template says of one text.
absl::Status ReadSingle(const Json& steps, SequenceTemplate* out) {
  bool seen_text = false;
  for (const Json& step : steps) {
    std::string token;
    if (IsText(step, &token)) {
      seen_text = true;
      continue;
    }
    std::string& side = seen_text ? out->after : out->before;
    if (!side.empty() || token.empty()) {
      return UnsupportedComponent("post_processor.single", "more than one special token on a side");
    }
    side = token;
  }
  return absl::OkStatus();
}

// What stands between the texts of a pair, if around them stands what stands around one text.
void ReadPair(const Json& steps, SequenceTemplate* out) {
  constexpr size_t kMaxTemplateTokens = 4;  // on one side of a text
  std::vector<std::string> parts[3];        // before, between, behind the texts
  size_t texts = 0;
  for (const Json& step : steps) {
    std::string token;
    if (IsText(step, &token)) {
      ++texts;
    } else if (texts < 3) {
      if (parts[texts].size() == kMaxTemplateTokens) return;  // then there are no pairs
      parts[texts].push_back(token);
    }
  }
  const auto is = [](const std::vector<std::string>& tokens, const std::string& token) {
    return token.empty() ? tokens.empty() : tokens.size() == 1 && tokens[0] == token;
  };
  if (texts == 2 && is(parts[0], out->before) && is(parts[2], out->after)) out->between = parts[1];
}

// BERT's and RoBERTa's own: [CLS] a [SEP] b [SEP], <s> a </s> </s> b </s>.
absl::Status ReadNamedTemplate(const Json& step, size_t separators, SequenceTemplate* out) {
  const auto token = [&](const char* name) {
    const Json& pair = Field(step, name);
    return pair.is_array() && pair.size() == 2 ? StringOf(pair[0]) : std::string();
  };
  out->before = token("cls");
  out->after = token("sep");
  if (out->before.empty() || out->after.empty()) {
    return UnsupportedComponent("post_processor",
                                StringField(step, "type") + " without its tokens");
  }
  out->between.assign(separators, out->after);
  return absl::OkStatus();
}

}  // namespace

absl::Status ParsePreTokenizer(const Json& root, TokenizerSpec* spec) {
  const std::vector<const Json*> steps = StepsOf(Field(root, "pre_tokenizer"), "pretokenizers");
  const bool byte_level = IsByteLevel(steps);
  spec->model = byte_level ? TokenizerSpec::Model::kByteBpe : TokenizerSpec::Model::kMergedBpe;
  for (size_t i = 0; i < steps.size(); ++i) {
    // After it the text is spelled in the byte alphabet, where our patterns would see other
    // letters.
    if (i > 0 && StringField(*steps[i - 1], "type") == "ByteLevel") {
      return UnsupportedComponent("pre_tokenizer",
                                  StringField(*steps[i], "type") + " after ByteLevel");
    }
    const absl::Status status =
        byte_level ? AddByteLevelStep(*steps[i], i == 0, spec) : AddCharacterStep(*steps[i], spec);
    if (!status.ok()) return status;
  }
  if (byte_level && spec->split_patterns.empty()) spec->pre_tokenizer = "none";
  return absl::OkStatus();
}

absl::Status ParseNormalizer(const Json& root, TokenizerSpec* spec) {
  for (const Json* step : StepsOf(Field(root, "normalizer"), "normalizers")) {
    if (absl::Status status = AddNormalizer(*step, spec); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckDecoder(const Json& root, const TokenizerSpec& spec) {
  const bool byte_level = spec.model == TokenizerSpec::Model::kByteBpe;
  for (const Json* step : StepsOf(Field(root, "decoder"), "decoders")) {
    const std::string type = StringField(*step, "type");
    // These undo what the two models do; the first space is removed exactly when one was added.
    const bool known = byte_level ? type == "ByteLevel" || type == "Fuse"
                                  : type == "Replace" || type == "ByteFallback" || type == "Fuse" ||
                                        type == "Strip" || type == "Metaspace";
    if (!known) return UnsupportedComponent("decoder.type", type);
  }
  return absl::OkStatus();
}

absl::Status ParsePostProcessor(const Json& root, SequenceTemplate* out) {
  for (const Json* step : StepsOf(Field(root, "post_processor"), "processors")) {
    const std::string type = StringField(*step, "type");
    if (type == "ByteLevel") continue;  // offsets only
    absl::Status status;
    if (type == "TemplateProcessing") {
      status = ReadSingle(Field(*step, "single"), out);
      ReadPair(Field(*step, "pair"), out);
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      status = ReadNamedTemplate(*step, type == "BertProcessing" ? 1 : 2, out);
    } else {
      status = UnsupportedComponent("post_processor.type", type);
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace pregate
