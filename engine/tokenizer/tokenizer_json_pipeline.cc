#include "engine/tokenizer/tokenizer_json_pipeline.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "engine/tokenizer/pre_tokenizers.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/vocabulary.h"

namespace pregate {
namespace {

absl::Status Unsupported(std::string_view where, std::string_view what) {
  return absl::FailedPreconditionError(
      Cat("tokenizer.json ", where, ": not supported; got ", what));
}

// The steps of a component: the members of its "Sequence", or the component alone; none for null.
std::vector<const Json*> Steps(const Json& component, const char* members) {
  std::vector<const Json*> steps;
  if (component.is_null()) return steps;
  if (StringField(component, "type") != "Sequence") return {&component};
  for (const Json& step : Field(component, members)) steps.push_back(&step);
  return steps;
}

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
  if (behavior != "Isolated") return Unsupported("pre_tokenizer.behavior", behavior);
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
    return Unsupported("pre_tokenizer.behavior", behavior);
  }
  spec->split_patterns.push_back(Cat(kPunctuation, behavior == "Contiguous" ? "+" : ""));
  return absl::OkStatus();
}

absl::Status AddByteLevel(const Json& step, bool is_first, TokenizerSpec* spec) {
  if (BoolField(step, "add_prefix_space", true)) {
    if (!is_first) return Unsupported("pre_tokenizer.add_prefix_space", "true after other steps");
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
  return Unsupported("pre_tokenizer.type", type);
}

absl::Status AddMetaspace(const Json& step, TokenizerSpec* spec) {
  if (StringField(step, "replacement") != kVisibleSpace) {
    return Unsupported("pre_tokenizer.replacement", StringField(step, "replacement"));
  }
  if (BoolField(step, "split", true)) return Unsupported("pre_tokenizer.split", "true");
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
  return Unsupported("pre_tokenizer.type", type);
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
  return Unsupported("normalizer", step.dump(-1, ' ', false, Json::error_handler_t::replace));
}

// Appends to `sides` (before and after the text) what one template step says.
absl::Status AddTemplateStep(const Json& step, bool* seen_text, SequenceTemplate* out) {
  if (Field(step, "Sequence").is_object()) {
    *seen_text = true;
    return absl::OkStatus();
  }
  std::string& side = *seen_text ? out->after : out->before;
  const std::string token = StringField(Field(step, "SpecialToken"), "id");
  if (!side.empty() || token.empty()) {
    return Unsupported("post_processor.single", "more than one special token on a side");
  }
  side = token;
  return absl::OkStatus();
}

}  // namespace

absl::Status ParsePreTokenizer(const Json& root, TokenizerSpec* spec) {
  const std::vector<const Json*> steps = Steps(Field(root, "pre_tokenizer"), "pretokenizers");
  const bool byte_level = IsByteLevel(steps);
  spec->model = byte_level ? TokenizerSpec::Model::kByteBpe : TokenizerSpec::Model::kMergedBpe;
  for (size_t i = 0; i < steps.size(); ++i) {
    // After it the text is spelled in the byte alphabet, where our patterns would see other
    // letters.
    if (i > 0 && StringField(*steps[i - 1], "type") == "ByteLevel") {
      return Unsupported("pre_tokenizer", StringField(*steps[i], "type") + " after ByteLevel");
    }
    const absl::Status status =
        byte_level ? AddByteLevelStep(*steps[i], i == 0, spec) : AddCharacterStep(*steps[i], spec);
    if (!status.ok()) return status;
  }
  if (byte_level && spec->split_patterns.empty()) spec->pre_tokenizer = "none";
  return absl::OkStatus();
}

absl::Status ParseNormalizer(const Json& root, TokenizerSpec* spec) {
  for (const Json* step : Steps(Field(root, "normalizer"), "normalizers")) {
    if (absl::Status status = AddNormalizer(*step, spec); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckDecoder(const Json& root, const TokenizerSpec& spec) {
  const bool byte_level = spec.model == TokenizerSpec::Model::kByteBpe;
  for (const Json* step : Steps(Field(root, "decoder"), "decoders")) {
    const std::string type = StringField(*step, "type");
    // These undo what the two models do; the first space is removed exactly when one was added.
    const bool known = byte_level ? type == "ByteLevel" || type == "Fuse"
                                  : type == "Replace" || type == "ByteFallback" || type == "Fuse" ||
                                        type == "Strip" || type == "Metaspace";
    if (!known) return Unsupported("decoder.type", type);
  }
  return absl::OkStatus();
}

absl::Status ParsePostProcessor(const Json& root, SequenceTemplate* out) {
  for (const Json* step : Steps(Field(root, "post_processor"), "processors")) {
    const std::string type = StringField(*step, "type");
    if (type == "ByteLevel") continue;  // offsets only
    if (type != "TemplateProcessing") return Unsupported("post_processor.type", type);
    bool seen_text = false;
    for (const Json& part : Field(*step, "single")) {
      if (absl::Status status = AddTemplateStep(part, &seen_text, out); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace pregate
