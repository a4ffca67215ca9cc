#include "tests/tokenizer/cases.h"

#include <cassert>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "engine/model/model_file.h"
#include "tests/sample_models.h"

namespace pregate {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kNamedPrefix = "pre-";
// The names of pretokenizers.json.
constexpr const char* kPreTokenizers[] = {"gpt-2",  "smollm", "llama-bpe",      "qwen2",
                                          "tekken", "gpt-4o", "deepseek-coder", "deepseek-v3"};

absl::StatusOr<TokenizerSpec> SampleModelSpec(const std::string& file) {
  const std::string path = SampleModelPath(file);
  if (path.empty()) return absl::NotFoundError(file + " is not in the model cache");
  auto model = ModelFile::Open(path);
  if (!model.ok()) return model.status();
  return (*model)->tokenizer();
}

absl::StatusOr<TokenizerSpec> Parse(const Json& root) {
  return ParseTokenizerJson(root.dump(), "", "");
}

// The small byte-level vocabulary with a pre-tokeniser as GGUF names it.
absl::StatusOr<TokenizerSpec> NamedPreTokenizerSpec(const std::string& name) {
  auto spec = ParseTokenizerJson(ReadTestFile("byte_level.json"), "", "");
  if (!spec.ok()) return spec;
  spec->split_patterns.clear();
  spec->pre_tokenizer = name;
  return spec;
}

absl::StatusOr<TokenizerSpec> Llama2Spec(std::string_view name) {
  Json root = Json::parse(ReadTestFile("llama2.json"));
  if (name == "llama2-metaspace") {
    root["normalizer"] = nullptr;
    root["pre_tokenizer"] = {{"type", "Metaspace"},
                             {"replacement", "\xE2\x96\x81"},
                             {"prepend_scheme", "first"},
                             {"split", false}};
  }
  auto spec = Parse(root);
  if (!spec.ok() || name != "llama2-scores") return spec;
  // As a GGUF file has it: scores in place of merges, every token worse than the one before.
  constexpr size_t kFirstPiece = 259;
  spec->model = TokenizerSpec::Model::kSentencePieceBpe;
  spec->merges.clear();
  spec->scores.assign(spec->tokens.size(), 0.0f);
  for (size_t id = kFirstPiece; id < spec->tokens.size(); ++id) {
    spec->scores[id] = -static_cast<float>(id - kFirstPiece);
  }
  return spec;
}

absl::StatusOr<TokenizerSpec> WordPieceSpec(std::string_view name) {
  Json root = Json::parse(ReadTestFile("wordpiece.json"));
  if (name == "wordpiece-cased") {
    root["normalizer"]["lowercase"] = false;
    root["normalizer"]["strip_accents"] = nullptr;
  }
  return Parse(root);
}

absl::StatusOr<TokenizerSpec> UnigramSpec(std::string_view name) {
  Json root = Json::parse(ReadTestFile("unigram.json"));
  if (name == "unigram-words") {
    root["normalizer"] = Json(root["normalizer"]["normalizers"][0]);
    root["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers", Json::array({{{"type", "WhitespaceSplit"}}, root["pre_tokenizer"]})}};
  }
  auto spec = Parse(root);
  if (!spec.ok() || name != "unigram-scores") return spec;
  // As a GGUF file has it: what sentencepiece does by itself.
  spec->collapse_spaces = spec->strip_left = spec->strip_right = true;
  spec->prefix_unless_space = spec->cut_words = false;
  return spec;
}

absl::StatusOr<TokenizerSpec> SpecOf(std::string_view name) {
  if (name == "minilm") return SampleModelSpec("all-MiniLM-L6-v2");
  if (name.starts_with("wordpiece")) return WordPieceSpec(name);
  if (name.starts_with("unigram")) return UnigramSpec(name);
  if (name.starts_with("smollm2")) return SampleModelSpec("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (name.starts_with("gemma3")) return SampleModelSpec("gemma-3-270m-q4_k_m.gguf");
  if (name.starts_with("llama2")) return Llama2Spec(name);
  assert(name.starts_with(kNamedPrefix));
  return NamedPreTokenizerSpec(std::string(name.substr(kNamedPrefix.size())));
}

}  // namespace

const std::vector<std::string>& GoldenCaseNames() {
  static const auto* const names = [] {
    auto* all = new std::vector<std::string>{
        "smollm2", "smollm2-plain",    "gemma3",        "gemma3-plain",  "gemma3-sentencepiece",
        "llama2",  "llama2-metaspace", "llama2-scores", "wordpiece",     "wordpiece-cased",
        "minilm",  "unigram",          "unigram-words", "unigram-scores"};
    for (const char* name : kPreTokenizers) all->push_back(std::string(kNamedPrefix) + name);
    return all;
  }();
  return *names;
}

absl::StatusOr<GoldenCase> MakeGoldenCase(std::string_view name) {
  absl::StatusOr<TokenizerSpec> spec = SpecOf(name);
  if (!spec.ok()) return spec.status();
  const bool sentencepiece = name.ends_with("-sentencepiece") || name.ends_with("-scores");
  GoldenCase result;
  const bool words = spec->model == TokenizerSpec::Model::kWordPiece;
  result.utf8_only = spec->add_space_prefix || sentencepiece || words;
  result.no_nul = sentencepiece;
  result.marked = name.starts_with("unigram");
  result.options.parse_special = !sentencepiece && !name.ends_with("-plain");
  auto tokenizer = Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return tokenizer.status();
  result.tokenizer = *std::move(tokenizer);
  return result;
}

std::string ReadTestFile(const std::string& name) {
  std::ifstream file("tests/tokenizer/" + name, std::ios::binary);
  assert(file.good());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::string> CorpusLines() {
  const std::string data = ReadTestFile("corpus.bin");
  std::vector<std::string> lines;
  for (size_t at = 0; at < data.size();) {
    uint32_t size;
    std::memcpy(&size, data.data() + at, sizeof(size));
    lines.push_back(data.substr(at + sizeof(size), size));
    at += sizeof(size) + size;
  }
  return lines;
}

}  // namespace pregate
