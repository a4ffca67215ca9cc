#include "engine/tokenizer/pre_tokenizers.h"

namespace pregate {

// Radford et al. 2019 as released with GPT-2 (encoder.py).
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kUpToThreeDigits = R"(\p{N}{1,3})";
constexpr std::string_view kLineBreak = R"([\r\n])";

// Llama 3's tokenizer.json.
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Qwen 2's: as Llama 3's with single digits.
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Mistral NeMo's ("Tekken").
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// OpenAI's o200k_base, as Llama 4's tokenizer.json has it.
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// DeepSeek-V3's.
constexpr std::string_view kCjkRun = R"([一-龥぀-ゟ゠-ヿ]+)";
constexpr std::string_view kDeepSeek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// DeepSeek-Coder's.
constexpr std::string_view kSpacedLetters = R"(\s?\p{L}+)";
constexpr std::string_view kSpacedPunctuation = R"(\s?\p{P}+)";
constexpr std::string_view kEastAsianRun = R"([一-龥ࠀ-一가-퟿]+)";

const std::vector<PreTokenizer>& Table() {
  static const auto* const table = new std::vector<PreTokenizer>{
      {"none", {}},
      {"gpt-2", {kGpt2Pattern}},
      {"gpt2", {kGpt2Pattern}},
      {"default", {kGpt2Pattern}},
      {"mpt", {kGpt2Pattern}},
      {"olmo", {kGpt2Pattern}},
      {"roberta-bpe", {kGpt2Pattern}},
      {"phi-2", {kGpt2Pattern}},
      {"smollm", {kDigit, kGpt2Pattern}},
      {"starcoder", {kDigit, kGpt2Pattern}},
      {"refact", {kDigit, kGpt2Pattern}},
      {"command-r", {kDigit, kGpt2Pattern}},
      {"codeshell", {kDigit, kGpt2Pattern}},
      {"llama-bpe", {kLlama3}, /*ignore_merges=*/true},
      {"llama3", {kLlama3}, /*ignore_merges=*/true},
      {"llama-v3", {kLlama3}, /*ignore_merges=*/true},
      {"dbrx", {kLlama3}},
      {"smaug-bpe", {kLlama3}},
      {"qwen2", {kQwen2}, /*ignore_merges=*/false, /*nfc_normalize=*/true},
      {"deepseek-r1-qwen", {kQwen2}, /*ignore_merges=*/false, /*nfc_normalize=*/true},
      {"stablelm2", {kQwen2}},
      {"tekken", {kTekken}, /*ignore_merges=*/true},
      {"gpt-4o", {kGpt4o}},
      {"llama4", {kGpt4o}},
      {"deepseek-coder", {kLineBreak, kSpacedLetters, kSpacedPunctuation, kEastAsianRun, kDigit}},
      {"deepseek-v3", {kUpToThreeDigits, kCjkRun, kDeepSeek3}},
  };
  return *table;
}

}  // namespace

const PreTokenizer* FindPreTokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  for (const PreTokenizer& entry : Table()) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

absl::Span<const PreTokenizer> AllPreTokenizers() { return Table(); }

}  // namespace pregate
