#include "engine/model/gguf_tokenizer.h"

#include <algorithm>
#include <utility>

#include "engine/model/gguf_fields.h"
#include "engine/model/model_limits.h"

namespace pregate {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

// Pre-tokenisers of the Llama 3 kind: words that are tokens are taken whole, and BOS comes first.
constexpr std::string_view kWholeWordPreTokenizers[] = {"llama3", "llama-v3", "llama-bpe"};

absl::Status ReadTokens(const GgufFile& file, TokenizerSpec& spec) {
  const std::string key = absl::StrCat(ToAbsl(kPrefix), "tokens");
  const auto tokens = file.GetStrings(key, kMaxVocab);
  if (!tokens.ok()) return tokens.status();
  if (tokens->empty()) return Malformed(key, "must not be empty", "no tokens");
  spec.tokens.assign(tokens->begin(), tokens->end());
  return absl::OkStatus();
}

absl::Status CheckSameLength(std::string_view key, size_t count, const TokenizerSpec& spec) {
  if (count == 0 || count == spec.tokens.size()) return absl::OkStatus();
  return Malformed(key, absl::StrCat("must have ", spec.tokens.size(), " elements, as tokens"),
                   absl::StrCat(count));
}

absl::Status ReadScores(const GgufFile& file, TokenizerSpec& spec) {
  const std::string key = absl::StrCat(ToAbsl(kPrefix), "scores");
  auto scores = file.GetFloats(key, kMaxVocab);
  if (!scores.ok()) return scores.status();
  for (const float score : *scores) {
    if (!(score >= -1e30f && score <= 1e30f)) {
      return Malformed(key, "every score must be finite", absl::StrCat(score));
    }
  }
  spec.scores = *std::move(scores);
  return CheckSameLength(key, spec.scores.size(), spec);
}

absl::Status ReadTokenTypes(const GgufFile& file, TokenizerSpec& spec) {
  const std::string key = absl::StrCat(ToAbsl(kPrefix), "token_type");
  const auto types = file.GetInt32s(key, kMaxVocab);
  if (!types.ok()) return types.status();
  for (const int32_t type : *types) {
    if (type < TokenizerSpec::kNormal || type > TokenizerSpec::kByte) {
      return Malformed(key, "every type must be in [1, 6]", absl::StrCat(type));
    }
    spec.token_types.push_back(static_cast<uint8_t>(type));
  }
  return CheckSameLength(key, spec.token_types.size(), spec);
}

// "a b" are the halves of a merge; a half may start with a space, so the first one does not split.
absl::Status ReadMerges(const GgufFile& file, TokenizerSpec& spec) {
  const std::string key = absl::StrCat(ToAbsl(kPrefix), "merges");
  const auto merges = file.GetStrings(key, kMaxMerges);
  if (!merges.ok()) return merges.status();
  spec.merges.reserve(merges->size());
  for (const std::string_view merge : *merges) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size()) {
      return Malformed(absl::StrCat(key, "[", spec.merges.size(), "]"),
                       "must be two tokens with a space between them", Quoted(merge));
    }
    spec.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return absl::OkStatus();
}

std::optional<int32_t> ReadId(GgufFields& fields, std::string_view key, const TokenizerSpec& spec) {
  const auto id = fields.OptionalInteger(key, 0, static_cast<int64_t>(spec.tokens.size()) - 1);
  if (!id) return std::nullopt;
  return static_cast<int32_t>(*id);
}

void ReadSpecialTokens(GgufFields& fields, TokenizerSpec& spec) {
  spec.bos_id = ReadId(fields, "bos_token_id", spec);
  spec.eos_id = ReadId(fields, "eos_token_id", spec);
  spec.unknown_id = ReadId(fields, "unknown_token_id", spec);
  for (const std::string_view key : {"eot_token_id", "eom_token_id"}) {
    if (const auto id = ReadId(fields, key, spec)) spec.end_of_turn_ids.push_back(*id);
  }
  MarkEndOfTurnTokens(&spec);

  spec.add_bos = fields.OptionalBool("add_bos_token").value_or(spec.add_bos);
  spec.add_eos = fields.OptionalBool("add_eos_token").value_or(spec.add_eos);
  spec.add_space_prefix = fields.OptionalBool("add_space_prefix").value_or(spec.add_space_prefix);
}

// What the tokenizer model implies where the file is silent.
void SetDefaults(std::string_view model, TokenizerSpec& spec) {
  if (model == "llama") {
    spec.model = TokenizerSpec::Model::kSentencePieceBpe;
    spec.add_bos = true;
    spec.add_space_prefix = true;
    return;
  }
  spec.model = TokenizerSpec::Model::kByteBpe;
  spec.ignore_merges =
      std::find(std::begin(kWholeWordPreTokenizers), std::end(kWholeWordPreTokenizers),
                spec.pre_tokenizer) != std::end(kWholeWordPreTokenizers);
  spec.add_bos = spec.ignore_merges;
  spec.nfc_normalize = spec.pre_tokenizer == "qwen2";
}

// The ids of SentencePiece's own control tokens, where the file is silent.
void SetSentencePieceIds(TokenizerSpec& spec) {
  const std::pair<std::optional<int32_t>*, int32_t> defaults[] = {
      {&spec.unknown_id, 0}, {&spec.bos_id, 1}, {&spec.eos_id, 2}};
  for (const auto& [id, value] : defaults) {
    if (!id->has_value() && static_cast<size_t>(value) < spec.tokens.size()) *id = value;
  }
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadGgufTokenizer(const GgufFile& file) {
  GgufFields fields(&file, std::string(kPrefix));
  const std::string_view model = fields.String("model");
  if (!fields.status().ok()) return fields.status();
  if (model != "llama" && model != "gpt2") {
    return NotServed(fields.FullKey("model"), "must be 'llama' or 'gpt2'", Quoted(model));
  }
  TokenizerSpec spec;
  spec.pre_tokenizer = std::string(fields.OptionalString("pre").value_or("default"));
  SetDefaults(model, spec);
  for (auto* read : {&ReadTokens, &ReadScores, &ReadTokenTypes, &ReadMerges}) {
    if (absl::Status status = read(file, spec); !status.ok()) return status;
  }
  const bool by_score = spec.model == TokenizerSpec::Model::kSentencePieceBpe;
  if (by_score && spec.scores.empty()) {
    return Malformed(fields.FullKey("scores"), "must be given for a 'llama' tokenizer",
                     "no such key");
  }
  if (!by_score && spec.merges.empty()) {
    return Malformed(fields.FullKey("merges"), "must be given for a 'gpt2' tokenizer",
                     "no such key");
  }
  ReadSpecialTokens(fields, spec);
  if (!fields.status().ok()) return fields.status();
  if (by_score) SetSentencePieceIds(spec);
  return spec;
}

}  // namespace pregate
