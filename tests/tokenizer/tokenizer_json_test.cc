// tokenizer.json and its companions: what is read, what is refused and by which name.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
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
  model["model"]["type"] = "WordLevel";
  ExpectUnsupported(model, "model.type: must be BPE, WordPiece or Unigram; got WordLevel");
  model = bytes;
  model["model"]["end_of_word_suffix"] = "</w>";
  ExpectUnsupported(model, "end_of_word_suffix");
  ExpectUnsupported(with("normalizer", {{"type", "Lowercase"}}), "Lowercase");
  ExpectUnsupported(with("pre_tokenizer", {{"type", "BertPreTokenizer"}}), "BertPreTokenizer");
  ExpectUnsupported(with("decoder", {{"type", "WordPiece"}}), "WordPiece");
  ExpectUnsupported(with("post_processor", {{"type", "BertProcessing"}}),
                    "BertProcessing without its tokens");
  ExpectUnsupported(with("post_processor", {{"type", "Truncation"}}), "Truncation");
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

TEST(TokenizerJsonTest, ReadsWordPiece) {
  const TokenizerSpec spec = Parsed(Root("wordpiece.json"));
  EXPECT_EQ(spec.model, TokenizerSpec::Model::kWordPiece);
  EXPECT_TRUE(spec.clean_text && spec.part_chinese && spec.strip_accents && spec.lowercase);
  EXPECT_EQ(spec.max_word_characters, 20);
  EXPECT_TRUE(spec.add_bos && spec.add_eos && !spec.fuse_unknown);
  EXPECT_EQ(spec.bos_id, 2);  // [CLS]
  EXPECT_EQ(spec.eos_id, 3);  // [SEP]
  EXPECT_EQ(spec.token_types[1], TokenizerSpec::kUnknown);
  EXPECT_THAT(spec.pair_separators, ElementsAre(3));
  Json cased = Root("wordpiece.json");
  cased["normalizer"]["lowercase"] = false;
  EXPECT_FALSE(Parsed(cased).strip_accents);  // null: as lowercase
  cased["normalizer"]["strip_accents"] = true;
  EXPECT_TRUE(Parsed(cased).strip_accents);
}

TEST(TokenizerJsonTest, ReadsUnigram) {
  const TokenizerSpec spec = Parsed(Root("unigram.json"));
  EXPECT_EQ(spec.model, TokenizerSpec::Model::kUnigram);
  EXPECT_TRUE(spec.add_space_prefix && spec.collapse_spaces && spec.strip_right && spec.cut_words);
  EXPECT_FALSE(spec.strip_left || spec.split_whitespace);
  EXPECT_EQ(spec.scores.size(), spec.tokens.size());
  EXPECT_EQ(spec.unknown_id, 3);
  EXPECT_TRUE(spec.fuse_unknown);
  EXPECT_FALSE(spec.charsmap.empty());
  EXPECT_THAT(spec.pair_separators, ElementsAre(2, 2));  // <s> a </s> </s> b </s>
}

TEST(TokenizerJsonTest, PairsAreJoinedAsTheTemplateSays) {
  const auto bert = Tokenizer::Create(Parsed(Root("wordpiece.json")));
  ASSERT_TRUE(bert.ok()) << bert.status();
  const std::vector<int32_t> a = (*bert)->Encode("the", {.add_special = false});
  const std::vector<int32_t> b = (*bert)->Encode("of a", {.add_special = false});
  const Tokenizer::Pair pair = (*bert)->EncodePair("the", "of a");
  std::vector<int32_t> want = {2};
  want.insert(want.end(), a.begin(), a.end());
  want.push_back(3);
  EXPECT_EQ(pair.second_begin, static_cast<int32_t>(want.size()));
  want.insert(want.end(), b.begin(), b.end());
  want.push_back(3);
  EXPECT_EQ(pair.ids, want);
  EXPECT_THAT((*bert)->JoinPair({}, {}).ids, ElementsAre(2, 3, 3));

  Json roberta = Root("byte_level.json");
  roberta["post_processor"] = {{"type", "RobertaProcessing"},
                               {"sep", {"<|im_end|>", 2}},
                               {"cls", {"<|endoftext|>", 0}},
                               {"trim_offsets", true},
                               {"add_prefix_space", false}};
  const auto bytes = Tokenizer::Create(Parsed(roberta));
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_THAT((*bytes)->JoinPair({5}, {6, 7}).ids, ElementsAre(0, 5, 2, 2, 6, 7, 2));
  EXPECT_EQ((*bytes)->JoinPair({5}, {6, 7}).second_begin, 4);
  const auto plain = Tokenizer::Create(Parsed(Root("byte_level.json")));
  EXPECT_FALSE((*plain)->makes_pairs());
}

// The vocabulary of tokenizer.json as the older file has it: a token a line.
std::string VocabularyLines(const Json& root) {
  std::vector<std::string> tokens(root["model"]["vocab"].size());
  for (const auto& [token, id] : root["model"]["vocab"].items()) tokens[id.get<size_t>()] = token;
  return absl::StrCat(absl::StrJoin(tokens, "\n"), "\n");
}

TEST(TokenizerJsonTest, AVocabularyAloneIsReadAsBertReadsIt) {
  Json root = Root("wordpiece.json");
  root["model"]["max_input_chars_per_word"] = 100;  // which nothing in that file changes
  for (const bool lower : {true, false}) {
    root["normalizer"]["lowercase"] = lower;
    const auto json =
        TokenizerJsonOfVocabulary(VocabularyLines(root), Json{{"do_lower_case", lower}}.dump());
    ASSERT_TRUE(json.ok()) << json.status();
    const TokenizerSpec want = Parsed(root), got = Parsed(Json::parse(*json));
    EXPECT_EQ(got.tokens, want.tokens);
    EXPECT_EQ(got.token_types, want.token_types);
    EXPECT_EQ(got.unknown_id, want.unknown_id);
    EXPECT_EQ(got.pair_separators, want.pair_separators);
    const auto one = Tokenizer::Create(want), other = Tokenizer::Create(got);
    ASSERT_TRUE(one.ok() && other.ok()) << other.status();
    for (const std::string text : {"The Caf\xC3\xA9, unordered_map", "\xE5\xB1\xB1 [SEP]x\t?"}) {
      EXPECT_EQ((*other)->Encode(text, {}), (*one)->Encode(text, {})) << text;
    }
  }
}

TEST(TokenizerJsonTest, BrokenVocabulariesAreNamed) {
  const auto says = [](const std::string& vocab, const std::string& config) {
    return std::string(TokenizerJsonOfVocabulary(vocab, config).status().message());
  };
  EXPECT_EQ(says("[UNK]\n[CLS]\nword\n", ""), "vocab.txt: must have a line [SEP]; got none");
  EXPECT_EQ(says("", "{"), "vocab.txt: must have a line [UNK]; got none");
  EXPECT_EQ(says("[UNK]\n\xFF\n", ""), "vocab.txt: must be UTF-8; got other bytes");
  EXPECT_EQ(says("<u>\r\n<s>\r\n</s>\r\n",
                 R"({"unk_token":"<u>","cls_token":{"content":"<s>"},"sep_token":"</s>"})"),
            "");
}

TEST(TokenizerJsonTest, DecodesWordsAndPieces) {
  const auto bert = Tokenizer::Create(Parsed(Root("wordpiece.json")));
  ASSERT_TRUE(bert.ok()) << bert.status();
  EXPECT_EQ((*bert)->Decode((*bert)->Encode("The  Thing of", {})), "the thing of");
  const auto unigram = Tokenizer::Create(Parsed(Root("unigram.json")));
  ASSERT_TRUE(unigram.ok()) << unigram.status();
  EXPECT_EQ((*unigram)->Decode((*unigram)->Encode("the  thing of", {})), "the thing of");
}

TEST(TokenizerJsonTest, NamesWhatIsNotServedOfEncoders) {
  Json root = Root("wordpiece.json");
  root["model"]["continuing_subword_prefix"] = "@@";
  ExpectUnsupported(root, "continuing_subword_prefix");
  root = Root("wordpiece.json");
  root["model"]["max_input_chars_per_word"] = 0;
  ExpectBroken(root, "max_input_chars_per_word");
  root["model"]["max_input_chars_per_word"] = 10'001;
  ExpectBroken(root, "max_input_chars_per_word");
  root = Root("wordpiece.json");
  root["pre_tokenizer"] = {{"type", "Whitespace"}};
  ExpectUnsupported(root, "Whitespace");
  root["pre_tokenizer"] = nullptr;
  ExpectUnsupported(root, "pre_tokenizer");
  root = Root("wordpiece.json");
  root["normalizer"] = {{"type", "Lowercase"}};
  ExpectUnsupported(root, "Lowercase");

  root = Root("unigram.json");
  root["pre_tokenizer"] = nullptr;
  ExpectUnsupported(root, "pre_tokenizer");
  root = Root("unigram.json");
  root["normalizer"] = {{"type", "NFKC"}};
  ExpectUnsupported(root, "NFKC");
  root["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "no Base64!"}};
  ExpectBroken(root, "Base64");
  root = Root("unigram.json");
  root["model"]["vocab"][7] = "token";
  ExpectBroken(root, "vocab[7]: must be a token and a score");
  root["model"]["vocab"][7] = {"token", 1e300};
  ExpectBroken(root, "score must be in");
  root["model"]["vocab"] = Json::object();
  ExpectBroken(root, "model.vocab");
}

// Charsmaps that lie: refused, or rewriting something, never reading past an end.
TEST(TokenizerJsonTest, HostileCharsmaps) {
  const TokenizerSpec good = Parsed(Root("unigram.json"));
  const std::string text = "\xEF\xAC\x81 \xEF\xBC\xA1 e\xCC\x81 \xC2\xA0 plain";
  for (size_t size = 1; size < good.charsmap.size(); size += 1 + size / 8) {
    TokenizerSpec spec = good;
    spec.charsmap.resize(size);
    const auto tokenizer = Tokenizer::Create(std::move(spec));
    if (tokenizer.ok()) (*tokenizer)->Encode(text, {});
  }
  uint64_t state = 1;
  int created = 0;
  for (int i = 0; i < 400; ++i) {
    TokenizerSpec spec = good;
    for (int change = 0; change < 4; ++change) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      spec.charsmap[state >> 33 & 0x3FF] = static_cast<char>(state >> 56);
    }
    const auto tokenizer = Tokenizer::Create(std::move(spec));
    if (!tokenizer.ok()) continue;
    ++created;
    for (const int32_t id : (*tokenizer)->Encode(text, {})) {
      ASSERT_LT(id, (*tokenizer)->vocab_size());
    }
  }
  EXPECT_GT(created, 200);
}

// The time of a text is in its length, whatever stands in it.
TEST(TokenizerJsonTest, LongTextsOfOneWord) {
  for (const char* file : {"wordpiece.json", "unigram.json"}) {
    const auto tokenizer = Tokenizer::Create(Parsed(Root(file)));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (const std::string& unit : {std::string("a"), std::string("\xCC\x81"), std::string(" ")}) {
      std::string text;
      while (text.size() < (1 << 20)) text += unit;
      EXPECT_LE((*tokenizer)->Encode(text, {}).size(), text.size() + 3) << file;
    }
  }
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
  for (const char* file : {"byte_level.json", "llama2.json", "wordpiece.json", "unigram.json"}) {
    Json good = Root(file);
    // Small files, so that many can be tried: no merges and what they make, a few scored tokens.
    if (good["model"].contains("merges")) {
      for (const Json& merge : std::exchange(good["model"]["merges"], Json::array())) {
        good["model"]["vocab"].erase(merge[0].get<std::string>() + merge[1].get<std::string>());
      }
    }
    Json& vocab = good["model"]["vocab"];
    while (vocab.is_array() && vocab.size() > 8) vocab.erase(vocab.size() - 1);
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
    if (vocab.is_object()) places.push_back(Json::json_pointer("/model/vocab/a"));
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
