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

// The converters write a word's first piece with a visible space in front and the others without
// "##": the other way round than vocab.txt, which is what is cut by here.
void RestoreWordPieces(TokenizerSpec& spec) {
  constexpr std::string_view kVisibleSpace = "\xE2\x96\x81";
  bool has_capitals = false;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    std::string& token = spec.tokens[id];
    const bool special = token.size() > 2 && token.front() == '[' && token.back() == ']';
    if (!spec.token_types.empty() && spec.token_types[id] != TokenizerSpec::kNormal) continue;
    if (token.starts_with(kVisibleSpace)) {
      token.erase(0, kVisibleSpace.size());
    } else if (!special) {
      token.insert(0, "##");
    }
    const auto is_capital = [](char c) { return c >= 'A' && c <= 'Z'; };
    const bool reserved = token.size() > 2 && token.front() == '[' && token.back() == ']';
    has_capitals |= !reserved && std::any_of(token.begin(), token.end(), is_capital);
  }
  // The file does not say it: a vocabulary that has capitals is for text that has them too.
  spec.lowercase = spec.strip_accents = !has_capitals;
}

// The special tokens of BERT: [CLS] stands for BOS, [SEP] for EOS and between the texts of a pair.
absl::Status SetWordPieceTokens(GgufFields& fields, TokenizerSpec& spec) {
  const auto find = [&](std::string_view key, std::string_view spelling) -> std::optional<int32_t> {
    if (const auto stated = ReadId(fields, key, spec)) return stated;
    const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), spelling);
    if (found == spec.tokens.end()) return std::nullopt;
    return static_cast<int32_t>(found - spec.tokens.begin());
  };
  // Most files have it as BOS, some by its own name, some not at all.
  spec.bos_id = ReadId(fields, "cls_token_id", spec);
  if (!spec.bos_id) spec.bos_id = find("bos_token_id", "[CLS]");
  spec.eos_id = find("seperator_token_id", "[SEP]");  // so is it spelled
  spec.unknown_id = find("unknown_token_id", "[UNK]");
  for (const auto& [id, name] :
       {std::pair{spec.bos_id, "cls_token_id"}, std::pair{spec.eos_id, "seperator_token_id"},
        std::pair{spec.unknown_id, "unknown_token_id"}}) {
    if (!id) return Malformed(fields.FullKey(name), "must be given", "no such token");
  }
  spec.token_types.resize(spec.tokens.size(), TokenizerSpec::kNormal);
  for (const std::string_view spelling : {"[CLS]", "[SEP]", "[PAD]", "[MASK]"}) {
    const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), spelling);
    if (found == spec.tokens.end()) continue;
    spec.token_types[static_cast<size_t>(found - spec.tokens.begin())] = TokenizerSpec::kControl;
  }
  spec.token_types[static_cast<size_t>(*spec.unknown_id)] = TokenizerSpec::kUnknown;
  spec.add_bos = spec.add_eos = true;
  spec.fuse_unknown = false;
  spec.pair_separators = {*spec.eos_id};
  return absl::OkStatus();
}

// SentencePiece's unigram models: T5's and XLM-R's, of which the second makes pairs.
absl::Status SetUnigram(const GgufFile& file, GgufFields& fields, TokenizerSpec& spec) {
  constexpr uint64_t kMaxCharsmap = 16 << 20;
  const auto charsmap = file.GetBytes(fields.FullKey("precompiled_charsmap"), kMaxCharsmap);
  if (!charsmap.ok()) return charsmap.status();
  spec.charsmap = std::string(*charsmap);
  const bool trims = fields.OptionalBool("remove_extra_whitespaces").value_or(true);
  spec.collapse_spaces = spec.strip_left = spec.strip_right = trims;
  const auto separator = ReadId(fields, "seperator_token_id", spec);
  if (spec.add_bos && spec.add_eos && spec.bos_id && spec.eos_id) {
    spec.pair_separators = {*spec.eos_id, separator.value_or(*spec.eos_id)};
  }
  return absl::OkStatus();
}

// What the tokenizer model implies where the file is silent.
void SetDefaults(std::string_view model, TokenizerSpec& spec) {
  if (model == "bert") {
    spec.model = TokenizerSpec::Model::kWordPiece;
    return;
  }
  if (model == "t5") {
    spec.model = TokenizerSpec::Model::kUnigram;
    spec.add_space_prefix = true;
    spec.add_eos = true;
    return;
  }
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
  if (model != "llama" && model != "gpt2" && model != "bert" && model != "t5") {
    return NotServed(fields.FullKey("model"), "must be 'llama', 'gpt2', 'bert' or 't5'",
                     Quoted(model));
  }
  TokenizerSpec spec;
  spec.pre_tokenizer = std::string(fields.OptionalString("pre").value_or("default"));
  SetDefaults(model, spec);
  for (auto* read : {&ReadTokens, &ReadScores, &ReadTokenTypes, &ReadMerges}) {
    if (absl::Status status = read(file, spec); !status.ok()) return status;
  }
  const bool by_score = spec.model == TokenizerSpec::Model::kSentencePieceBpe;
  const bool unigram = spec.model == TokenizerSpec::Model::kUnigram;
  if ((by_score || unigram) && spec.scores.empty()) {
    return Malformed(fields.FullKey("scores"),
                     absl::StrCat("must be given for a '", ToAbsl(model), "' tokenizer"),
                     "no such key");
  }
  const bool words = spec.model == TokenizerSpec::Model::kWordPiece;
  if (words) RestoreWordPieces(spec);
  if (!by_score && !unigram && !words && spec.merges.empty()) {
    return Malformed(fields.FullKey("merges"), "must be given for a 'gpt2' tokenizer",
                     "no such key");
  }
  ReadSpecialTokens(fields, spec);
  if (!fields.status().ok()) return fields.status();
  if (by_score) SetSentencePieceIds(spec);
  if (words || unigram) {
    absl::Status status = words ? SetWordPieceTokens(fields, spec) : SetUnigram(file, fields, spec);
    if (status.ok()) status = fields.status();
    if (!status.ok()) return status;
  }
  return spec;
}

}  // namespace pregate
