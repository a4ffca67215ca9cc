#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/tokenizer/bpe_merger.h"
#include "engine/tokenizer/merge_list.h"
#include "engine/tokenizer/nfc.h"
#include "engine/tokenizer/pre_tokenizers.h"
#include "engine/tokenizer/regex_splitter.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/text_encoder.h"
#include "engine/tokenizer/utf8.h"

namespace pregate {
namespace {

class ByteLevelText : public TextEncoder {
 public:
  ByteLevelText(const Vocabulary* vocabulary, BpeMerger merger,
                std::vector<RegexSplitter> splitters)
      : vocabulary_(*vocabulary), merger_(std::move(merger)), splitters_(std::move(splitters)) {
    if (!vocabulary_.spec().ignore_merges) return;
    for (int32_t id = 0; id < vocabulary_.size(); ++id) {
      if (vocabulary_.IsNormal(id)) whole_words_.emplace(vocabulary_.bytes(id), id);
    }
  }

  void Encode(std::string_view text, bool begins_text, std::vector<int32_t>* ids) const override;

 private:
  struct Scratch {
    RegexSplitter::Scratch regex;
    BpeMerger::Scratch merge;
    std::vector<std::string_view> words, pieces;
  };

  void EncodeValid(std::string_view text, Scratch* scratch, std::vector<int32_t>* ids) const;
  void EncodeWord(std::string_view word, Scratch* scratch, std::vector<int32_t>* ids) const;
  // `first`: where the word that the byte belongs to starts in `ids`.
  void AppendByte(uint8_t byte, size_t first, std::vector<int32_t>* ids) const;

  const Vocabulary& vocabulary_;
  const BpeMerger merger_;
  const std::vector<RegexSplitter> splitters_;
  absl::flat_hash_map<std::string_view, int32_t> whole_words_;  // by their bytes
};

void ByteLevelText::Encode(std::string_view text, bool begins_text,
                           std::vector<int32_t>* ids) const {
  std::string prefixed;
  if (WantsSpacePrefix(vocabulary_.spec(), text, begins_text)) {
    prefixed = Cat(" ", text);
    text = prefixed;
  }
  Scratch scratch;
  ForEachUtf8Stretch(
      text,
      [&](std::string_view valid) {
        if (vocabulary_.spec().nfc_normalize) {
          const std::string normalized = NfcNormalize(valid);
          EncodeValid(normalized, &scratch, ids);
        } else {
          EncodeValid(valid, &scratch, ids);
        }
      },
      [&](uint8_t byte) { AppendByte(byte, ids->size(), ids); });
}

void ByteLevelText::EncodeValid(std::string_view text, Scratch* scratch,
                                std::vector<int32_t>* ids) const {
  scratch->words.assign(1, text);
  for (const RegexSplitter& splitter : splitters_) {
    scratch->pieces.clear();
    for (const std::string_view word : scratch->words) {
      splitter.Split(word, &scratch->regex, &scratch->pieces);
    }
    scratch->words.swap(scratch->pieces);
  }
  for (const std::string_view word : scratch->words) EncodeWord(word, scratch, ids);
}

void ByteLevelText::EncodeWord(std::string_view word, Scratch* scratch,
                               std::vector<int32_t>* ids) const {
  if (const auto whole = whole_words_.find(word); whole != whole_words_.end()) {
    ids->push_back(whole->second);
    return;
  }
  const size_t first = ids->size();
  for (const char c : word) AppendByte(static_cast<uint8_t>(c), first, ids);
  merger_.MergeFrom(first, ids, &scratch->merge);
}

void ByteLevelText::AppendByte(uint8_t byte, size_t first, std::vector<int32_t>* ids) const {
  const int32_t id = vocabulary_.ByteToken(byte);
  if (id != Vocabulary::kNoToken) {
    ids->push_back(id);
  } else {
    vocabulary_.AppendUnknown(first, ids);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<TextEncoder>> MakeByteLevelText(const Vocabulary* vocabulary) {
  const TokenizerSpec& spec = vocabulary->spec();
  std::vector<std::string_view> patterns(spec.split_patterns.begin(), spec.split_patterns.end());
  if (patterns.empty()) {
    const PreTokenizer* named = FindPreTokenizer(spec.pre_tokenizer);
    if (named == nullptr) {
      return absl::FailedPreconditionError(
          Cat("tokenizer.pre: must be a pre-tokeniser that we know; got ", spec.pre_tokenizer));
    }
    patterns = named->patterns;
  }
  std::vector<RegexSplitter> splitters;
  for (const std::string_view pattern : patterns) {
    absl::StatusOr<RegexSplitter> splitter = RegexSplitter::Compile(pattern);
    if (!splitter.ok()) return splitter.status();
    splitters.push_back(*std::move(splitter));
  }
  absl::StatusOr<BpeMerger> merger = MergesByRank(*vocabulary);
  if (!merger.ok()) return merger.status();
  return std::make_unique<ByteLevelText>(vocabulary, *std::move(merger), std::move(splitters));
}

}  // namespace pregate
