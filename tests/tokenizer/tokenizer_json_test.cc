// tokenizer.json and its companions: what is read, what is refused and by which name.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "tests/tokenizer/cases.h"

namespace pregate {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr Tokenizer::EncodeOptions kParse = {.add_special = true, .parse_special = true};

Json Root(const std::string& file) { return Json::parse(ReadTestFile(file)); }

TokenizerSpec Parsed(const Json& root, const std::string& config = "",
                     const std::string& generation = "") {
  auto spec = ParseTokenizerJson(root.dump(), config, generation);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return *std::move(spec);
}

void ExpectError(const std::string& text, absl::StatusCode code, const std::string& message) {
  const auto spec = ParseTokenizerJson(text, "", "");
  EXPECT_EQ(spec.status().code(), code) << spec.status();
  EXPECT_THAT(std::string(spec.status().message()), HasSubstr(message));
}

void ExpectUnsupported(const Json& root, const std::string& message) {
  ExpectError(root.dump(), absl::StatusCode::kFailedPrecondition, message);
}

void ExpectBroken(const Json& root, const std::string& message) {
  ExpectError(root.dump(), absl::StatusCode::kInvalidArgument, message);
}

// Each pre-tokeniser as tokenizer.json spells it, against the same oracle as the named one.
TEST(TokenizerJsonTest, SpelledOutPreTokenizersAreTheNamedOnes) {
  const Json definitions = Root("pretokenizers.json");
  const std::vector<std::string> lines = CorpusLines();
  for (const auto& [name, definition] : definitions.items()) {
    Json root = Root("byte_level.json");
    root["pre_tokenizer"] = definition["pre_tokenizer"];
    root["normalizer"] = definition["normalizer"];
    root["model"]["ignore_merges"] = definition["ignore_merges"];
    const auto spelled = Tokenizer::Create(Parsed(root));
    ASSERT_TRUE(spelled.ok()) << spelled.status();
    const auto named = MakeGoldenCase("pre-" + name);
    ASSERT_TRUE(named.ok()) << named.status();
    for (const std::string& line : lines) {
      ASSERT_EQ((*spelled)->Encode(line, kParse), named->tokenizer->Encode(line, kParse))
          << name << ": " << testing::PrintToString(line);
    }
  }
}

TEST(TokenizerJsonTest, ReadsLlama2) {
  const TokenizerSpec spec = Parsed(Root("llama2.json"));
  EXPECT_EQ(spec.model, TokenizerSpec::Model::kMergedBpe);
  EXPECT_TRUE(spec.add_space_prefix && spec.add_bos && spec.fuse_unknown);
  EXPECT_FALSE(spec.add_eos);
  EXPECT_EQ(spec.bos_id, 1);
  EXPECT_EQ(spec.unknown_id, 0);
  EXPECT_EQ(spec.token_types[0], TokenizerSpec::kUnknown);
  EXPECT_EQ(spec.token_types[1], TokenizerSpec::kControl);
  EXPECT_EQ(spec.token_types[3], TokenizerSpec::kByte);
  EXPECT_EQ(spec.token_types[259], TokenizerSpec::kNormal);
}

TEST(TokenizerJsonTest, ReadsTheCompanions) {
  const TokenizerSpec spec =
      Parsed(Root("byte_level.json"),
             R"({"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>",
          "add_bos_token": true, "add_eos_token": false, "unheard_of": [1, {"a": null}]})",
             R"({"eos_token_id": [0, 2, 99999999, -1, "x"]})");
  EXPECT_EQ(spec.bos_id, 1);
  EXPECT_EQ(spec.eos_id, 2);
  EXPECT_TRUE(spec.add_bos);
  EXPECT_FALSE(spec.add_eos);
  EXPECT_THAT(spec.end_of_turn_ids, ElementsAre(0, 2));
  EXPECT_EQ(spec.strip_before_ids, spec.strip_after_ids);
  EXPECT_EQ(spec.strip_before_ids.size(), 1u);  // <mask>
  const TokenizerSpec bare = Parsed(Root("byte_level.json"), "", R"({"eos_token_id": 2})");
  EXPECT_EQ(bare.eos_id, 2);
  EXPECT_FALSE(bare.bos_id.has_value() || bare.add_bos);
}

// The special tokens of public families with what their generation_config.json says, and without.
TEST(TokenizerJsonTest, EndsATurnWhereTheFamilyDoes) {
  struct Family {
    std::vector<std::string> added;  // ids 0, 1, ...
    const char* tokenizer_config;
    const char* generation_config;
    std::vector<int32_t> stops;
  };
  const Family families[] = {
      // Llama 3: base and instruct.
      {{"<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"},
       R"({"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"})",
       R"({"eos_token_id": [1, 2, 3]})",
       {1, 2, 3}},
      {{"<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"},
       R"({"eos_token": "<|end_of_text|>"})",
       "",
       {1, 2, 3}},
      // Qwen 2.5 and 3.
      {{"<|endoftext|>", "<|im_start|>", "<|im_end|>"},
       R"({"eos_token": "<|im_end|>", "bos_token": null})",
       R"({"eos_token_id": [2, 0]})",
       {0, 2}},
      {{"<|endoftext|>", "<|im_start|>", "<|im_end|>"},
       R"({"eos_token": "<|endoftext|>"})",
       "",
       {0, 2}},
      // Gemma 3, whose tokenizer calls only <eos> so.
      {{"<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"},
       R"({"eos_token": "<eos>", "bos_token": "<bos>"})",
       R"({"eos_token_id": [1, 4]})",
       {1, 4}},
      {{"<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"},
       R"({"eos_token": "<eos>"})",
       "",
       {1, 4}},
      // Mistral and Llama 2: EOS ends a turn.
      {{"<unk>", "<s>", "</s>", "[INST]"},
       R"({"eos_token": "</s>"})",
       R"({"eos_token_id": 2})",
       {2}},
  };
  for (const Family& family : families) {
    Json root = Root("byte_level.json");
    root["added_tokens"] = Json::array();
    root["model"]["merges"] = Json::array();
    root["model"]["vocab"] = {{"a", family.added.size()}};
    for (size_t id = 0; id < family.added.size(); ++id) {
      root["added_tokens"].push_back(
          {{"id", id}, {"content", family.added[id]}, {"special", true}});
    }
    const auto tokenizer =
        Tokenizer::Create(Parsed(root, family.tokenizer_config, family.generation_config));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_THAT((*tokenizer)->stop_ids(), testing::ElementsAreArray(family.stops))
        << family.added[1];
  }
}

TEST(TokenizerJsonTest, MergesMayBePairs) {
  Json root = Root("byte_level.json");
  Json pairs = Json::array(), strings = Json::array();
  for (const auto& [left, right] : Parsed(root).merges) {
    pairs.push_back({left, right});
    strings.push_back(left + " " + right);
  }
  root["model"]["merges"] = pairs;
  const auto merges = Parsed(root).merges;
  EXPECT_GT(merges.size(), 1000u);
  root["model"]["merges"] = strings;
  EXPECT_EQ(Parsed(root).merges, merges);
}

TEST(TokenizerJsonTest, GapsBetweenIdsStayUnused) {
  Json root = Root("byte_level.json");
  const size_t size = Parsed(root).tokens.size();
  root["added_tokens"].push_back({{"id", size + 2}, {"content", "<far>"}, {"special", true}});
  const TokenizerSpec spec = Parsed(root);
  ASSERT_EQ(spec.tokens.size(), size + 3);
  EXPECT_EQ(spec.token_types[size + 1], TokenizerSpec::kUnused);
  EXPECT_EQ(spec.token_types[size + 2], TokenizerSpec::kControl);
  EXPECT_TRUE(Tokenizer::Create(spec).ok());
}

TEST(TokenizerJsonTest, ByteLevelPrefixSpace) {
  Json root = Root("byte_level.json");
  root["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  const auto tokenizer = Tokenizer::Create(Parsed(root));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("the", {}), (*tokenizer)->Encode(" the", {}));
  EXPECT_NE((*tokenizer)->Encode("the", {}), (*tokenizer)->Encode("  the", {}));
}

TEST(TokenizerJsonTest, NamesWhatIsNotSupported) {
  const Json bytes = Root("byte_level.json");
  const auto with = [&](const char* component, const Json& value) {
    Json root = bytes;
    root[component] = value;
    return root;
  };
  Json model = bytes;
  model["model"]["type"] = "Unigram";
  ExpectUnsupported(model, "model.type: must be BPE; got Unigram");
  model = bytes;
  model["model"]["end_of_word_suffix"] = "</w>";
  ExpectUnsupported(model, "end_of_word_suffix");
  ExpectUnsupported(with("normalizer", {{"type", "Lowercase"}}), "Lowercase");
  ExpectUnsupported(with("pre_tokenizer", {{"type", "BertPreTokenizer"}}), "BertPreTokenizer");
  ExpectUnsupported(with("decoder", {{"type", "WordPiece"}}), "WordPiece");
  ExpectUnsupported(with("post_processor", {{"type", "BertProcessing"}}), "BertProcessing");
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  const Json removed = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Removed"}};
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  for (const auto& [steps, message] :
       {std::pair{Json{removed, byte_level}, "pre_tokenizer.behavior: not supported; got Removed"},
        std::pair{Json{byte_level, digits}, "Digits after ByteLevel"}}) {
    ExpectUnsupported(with("pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", steps}}),
                      message);
  }
  Json added = bytes;
  added["added_tokens"][0]["single_word"] = true;
  ExpectUnsupported(added, "single_word");
}

TEST(TokenizerJsonTest, NamesWhatIsBroken) {
  const Json good = Root("byte_level.json");
  ExpectError("", absl::StatusCode::kFailedPrecondition, "model.type");
  ExpectError("[1]", absl::StatusCode::kInvalidArgument, "must be a JSON object");
  ExpectError("{\"model\":", absl::StatusCode::kInvalidArgument, "must be a JSON object");
  ExpectError(std::string(1 << 20, '['), absl::StatusCode::kInvalidArgument, "nests at most 64");
  Json root = good;
  root["model"]["vocab"] = Json::array({1, 2});
  ExpectBroken(root, "model.vocab");
  for (const Json& id : {Json(-1), Json(1 << 24), Json("7"), Json(1.5), Json(), Json(1e300)}) {
    root = good;
    root["model"]["vocab"]["new"] = id;
    ExpectBroken(root, "ids must be 0 to");
  }
  root = good;
  root["model"]["vocab"]["new"] = 5;
  ExpectBroken(root, "one token for id 5");
  root = good;
  root["model"]["merges"].push_back("abc");
  ExpectBroken(root, "must be two tokens");
  root = good;
  root["model"]["merges"].push_back(7);
  ExpectBroken(root, "must be two tokens");
  root = good;
  root["added_tokens"].push_back({{"id", 1}});
  ExpectBroken(root, "content must not be empty");
}

// Every kind of wrong type in every place is answered, never a crash.
TEST(TokenizerJsonTest, WrongTypesAnywhereAreErrorsOrDefaults) {
  const Json values[] = {Json(),
                         Json(true),
                         Json(-3),
                         Json(1e300),
                         Json("x"),
                         Json::array({1, "a"}),
                         Json{{"type", "Sequence"}, {"pretokenizers", 3}, {"normalizers", "x"}}};
  int read = 0, refused = 0;
  for (const char* file : {"byte_level.json", "llama2.json"}) {
    Json good = Root(file);
    // Small files, so that many can be tried: no merges and what they make.
    for (const Json& merge : std::exchange(good["model"]["merges"], Json::array())) {
      good["model"]["vocab"].erase(merge[0].get<std::string>() + merge[1].get<std::string>());
    }
    ASSERT_TRUE(Tokenizer::Create(Parsed(good)).ok());
    std::vector<Json::json_pointer> places;
    const Json flat = good.flatten();
    for (const auto& [key, value] : flat.items()) {
      const bool in_vocabulary = key.find("/vocab/") != std::string::npos;
      for (Json::json_pointer up(key); !in_vocabulary && !up.empty(); up.pop_back()) {
        places.push_back(up);
      }
    }
    places.push_back(Json::json_pointer("/model/vocab"));
    places.push_back(Json::json_pointer("/model/vocab/a"));
    ASSERT_GT(places.size(), 20u);
    for (const Json::json_pointer& place : places) {
      for (const Json& value : values) {
        Json root = good;
        root[place] = value;
        const std::string text = root.dump();
        const auto spec = ParseTokenizerJson(text, text, text);
        const bool ok = spec.ok() && Tokenizer::Create(*spec).ok();
        ++(ok ? read : refused);
      }
    }
  }
  // Some fields have defaults and some must be right.
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace pregate
