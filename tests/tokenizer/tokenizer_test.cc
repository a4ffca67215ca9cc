// What the families share: special tokens, prefixes, stripping, stop ids; and models that lie.

#include "engine/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "engine/tokenizer/pre_tokenizers.h"
#include "engine/tokenizer/regex_splitter.h"
#include "tests/tokenizer/cases.h"

namespace pregate {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr Tokenizer::EncodeOptions kPlain = {.add_special = false, .parse_special = false};
constexpr Tokenizer::EncodeOptions kParse = {.add_special = false, .parse_special = true};

// Letters, one merge, a control token that merging could spell, a user-defined one.
TokenizerSpec SmallSpec() {
  TokenizerSpec spec;
  spec.tokens = {"a", "b", "ab", "<", ">", "<ab>", "[T]", "Ġ", "c", "<ab"};
  spec.token_types.assign(spec.tokens.size(), TokenizerSpec::kNormal);
  spec.token_types[5] = TokenizerSpec::kControl;
  spec.token_types[6] = TokenizerSpec::kUserDefined;
  spec.merges = {{"a", "b"}, {"<", "ab"}, {"<ab", ">"}};
  spec.eos_id = 5;
  return spec;
}

std::unique_ptr<Tokenizer> Make(TokenizerSpec spec) {
  auto tokenizer = Tokenizer::Create(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

void ExpectRefused(TokenizerSpec spec, const std::string& message) {
  const auto tokenizer = Tokenizer::Create(std::move(spec));
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kFailedPrecondition) << tokenizer.status();
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(message));
}

// Row A24 of the reliability table: text is text.
TEST(TokenizerA24, PlainTextNeverBecomesAControlToken) {
  TokenizerSpec spec = SmallSpec();
  spec.pre_tokenizer = "none";
  const auto tokenizer = Make(spec);
  // The merges would make token 5 out of these letters.
  EXPECT_THAT(tokenizer->Encode("<ab>", kPlain), ElementsAre(9, 4));
  EXPECT_THAT(tokenizer->Encode("<ab>", kParse), ElementsAre(5));
  EXPECT_THAT(tokenizer->Encode("a<ab>b", kParse), ElementsAre(0, 5, 1));
  spec.ignore_merges = true;
  EXPECT_THAT(Make(spec)->Encode("<ab>", kPlain), Not(testing::Contains(5)));
  // Bytes without a token are dropped rather than given the control token that the file names.
  spec.unknown_id = 5;
  EXPECT_THAT(Make(spec)->Encode("a\xFFz", kPlain), ElementsAre(0));
}

TEST(TokenizerA24, SentencePieceNeverMakesAControlToken) {
  TokenizerSpec spec;
  spec.model = TokenizerSpec::Model::kSentencePieceBpe;
  spec.tokens = {"<unk>", "<s>", "<", "s", ">", "<s", "s>", "<0x41>"};
  spec.token_types = {2, 3, 1, 1, 1, 1, 1, 6};
  spec.scores = {0, 0, -1, -1, -1, -2, -3, 0};
  spec.unknown_id = 0;
  const auto tokenizer = Make(spec);
  EXPECT_THAT(tokenizer->Encode("<s>", kPlain), ElementsAre(5, 4));
  EXPECT_THAT(tokenizer->Encode("<s>", kParse), ElementsAre(1));
  EXPECT_THAT(tokenizer->Encode("<0x41>A", kParse), ElementsAre(2, 0, 4, 7));
  EXPECT_THAT(tokenizer->Encode("s\xC3\xA9\xC3\xA9s", kPlain), ElementsAre(3, 0, 3));
}

TEST(TokenizerTest, UserDefinedTokensAreAlwaysMatched) {
  const auto tokenizer = Make(SmallSpec());
  EXPECT_THAT(tokenizer->Encode("a[T]b", kPlain), ElementsAre(0, 6, 1));
  EXPECT_EQ(tokenizer->Decode({0, 6, 1}), "a[T]b");
}

TEST(TokenizerTest, ControlTokensAreHiddenUnlessAskedFor) {
  const auto tokenizer = Make(SmallSpec());
  EXPECT_EQ(tokenizer->Decode({0, 5, 1}), "ab");
  EXPECT_EQ(tokenizer->Decode({0, 5, 1}, /*show_special=*/true), "a<ab>b");
  EXPECT_EQ(tokenizer->FindToken("<ab>"), 5);
  EXPECT_EQ(tokenizer->FindToken("nothing"), std::nullopt);
}

TEST(TokenizerTest, AddsBosAndEosAsTheFileAsks) {
  TokenizerSpec spec = SmallSpec();
  spec.bos_id = 5;
  spec.add_bos = spec.add_eos = true;
  spec.end_of_turn_ids = {8, 5};
  const auto tokenizer = Make(spec);
  EXPECT_THAT(tokenizer->Encode("a", {}), ElementsAre(5, 0, 5));
  EXPECT_THAT(tokenizer->Encode("", {}), ElementsAre(5, 5));
  EXPECT_THAT(tokenizer->Encode("", kPlain), IsEmpty());
  EXPECT_THAT(tokenizer->stop_ids(), ElementsAre(5, 8));
}

// A chat prompt: the template's control tokens are read, the client's are text, and words may begin
// in one part and end in the next.
TEST(TokenizerA24, PartsAreOneText) {
  TokenizerSpec spec = SmallSpec();
  spec.pre_tokenizer = "none";
  spec.strip_before_ids = {6};
  const auto tokenizer = Make(spec);
  const auto encode = [&](std::initializer_list<Tokenizer::TextPart> parts) {
    return tokenizer->EncodeParts(parts, /*add_special=*/false);
  };
  EXPECT_THAT(encode({{"<ab>a", true}, {"b<ab>", false}}), ElementsAre(5, 2, 9, 4));
  EXPECT_THAT(encode({{"<ab>", false}, {"<ab>", true}, {"<ab>", false}}),
              ElementsAre(9, 4, 5, 9, 4));
  // Neither author wrote it whole.
  EXPECT_THAT(encode({{"<a", true}, {"b>", false}}), ElementsAre(9, 4));
  EXPECT_THAT(encode({{"<a", false}, {"b>", true}}), ElementsAre(9, 4));
  EXPECT_THAT(encode({{"<a", true}, {"b>", true}}), ElementsAre(9, 4));
  // User-defined tokens are text that anybody may write.
  EXPECT_THAT(encode({{"[", true}, {"", true}, {"T]", false}}), ElementsAre(6));
  EXPECT_THAT(encode({{"a", true}, {" ", false}, {"[T]", true}}), ElementsAre(0, 6));
  EXPECT_THAT(encode({}), IsEmpty());
  EXPECT_THAT(encode({{"", true}}), IsEmpty());
}

// Only the text's very first stretch gets the prefix, wherever its parts begin.
TEST(TokenizerTest, PartsDoNotBeginAText) {
  const auto made = MakeGoldenCase("llama2-metaspace");
  ASSERT_TRUE(made.ok()) << made.status();
  const Tokenizer& tokenizer = *made->tokenizer;
  EXPECT_EQ(tokenizer.EncodeParts({{"the <s>w", true}, {"ater<s>", false}, {" of", true}}, true),
            tokenizer.EncodeParts({{"the <s>", true}, {"water<s>", false}, {" of", true}}, true));
  EXPECT_EQ(tokenizer.EncodeParts({{"<s>th", true}, {"e wat", true}, {"er", true}}, true),
            tokenizer.Encode("<s>the water", {.add_special = true, .parse_special = true}));
}

// Where text is cut makes no difference, unless it cuts a control token.
TEST(TokenizerTest, AnyCutOfARealTextIsTheWhole) {
  for (const char* name : {"pre-qwen2", "pre-llama-bpe", "llama2", "llama2-scores"}) {
    const auto made = MakeGoldenCase(name);
    ASSERT_TRUE(made.ok()) << made.status();
    const std::vector<std::string> lines = CorpusLines();
    for (size_t i = 0; i < lines.size(); i += 7) {
      const std::string_view line = lines[i];
      const size_t cut = i * 31 % (line.size() + 1);
      ASSERT_EQ(made->tokenizer->EncodeParts({{line.substr(0, cut)}, {line.substr(cut)}}, true),
                made->tokenizer->Encode(line, {.add_special = true, .parse_special = false}))
          << name << " line " << i;
    }
  }
}

// Which token ends an answer of a real model, whatever its file calls EOS.
TEST(StopIdsTest, RealModels) {
  for (const auto& [name, ids] : {std::pair<const char*, std::vector<std::string>>{
                                      "smollm2", {"<|endoftext|>", "<|im_end|>"}},
                                  {"gemma3", {"<eos>", "<end_of_turn>"}}}) {
    const auto made = MakeGoldenCase(name);
    if (made.status().code() == absl::StatusCode::kNotFound) GTEST_SKIP() << made.status();
    ASSERT_TRUE(made.ok()) << made.status();
    std::vector<std::string> stops;
    for (const int32_t id : made->tokenizer->stop_ids()) {
      stops.push_back(made->tokenizer->spec().tokens[id]);
    }
    EXPECT_EQ(stops, ids) << name;
  }
}

TEST(StopIdsTest, PlainTokensAreNotMarked) {
  TokenizerSpec spec;
  spec.tokens = {"<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<EOT>"};
  spec.token_types = {TokenizerSpec::kControl, TokenizerSpec::kUserDefined, TokenizerSpec::kNormal,
                      TokenizerSpec::kUnused};
  spec.end_of_turn_ids = {1};
  MarkEndOfTurnTokens(&spec);
  EXPECT_THAT(spec.end_of_turn_ids, ElementsAre(0, 1));
  EXPECT_EQ(spec.token_types[1], TokenizerSpec::kControl);
  EXPECT_EQ(spec.token_types[2], TokenizerSpec::kNormal);
}

TEST(TokenizerTest, AddedTokensSwallowTheSpaceThatTheySayTheyDo) {
  TokenizerSpec spec = SmallSpec();
  spec.strip_before_ids = {6};
  spec.strip_after_ids = {6};
  EXPECT_THAT(Make(spec)->Encode("a \n [T] \t b", kPlain), ElementsAre(0, 6, 1));
  spec.strip_before_ids.clear();
  EXPECT_THAT(Make(spec)->Encode("a [T] b", kPlain), ElementsAre(0, 7, 6, 1));
}

TEST(TokenizerTest, LongRunsTakeNoQuadraticTime) {
  // Half a megabyte of one byte each: a quadratic merge would need many minutes.
  for (const char* name : {"pre-llama-bpe", "pre-gpt-2", "llama2", "llama2-scores"}) {
    const auto made = MakeGoldenCase(name);
    ASSERT_TRUE(made.ok()) << made.status();
    for (const char c : {'a', ' ', '\n', '\xFF'}) {
      const std::string text(1 << 19, c);
      const auto ids = made->tokenizer->Encode(text, kPlain);
      size_t bytes = 0;
      for (const int32_t id : ids) bytes += made->tokenizer->TokenBytes(id).size();
      EXPECT_EQ(bytes, text.size() + (made->tokenizer->spec().add_space_prefix ? 1 : 0));
    }
  }
}

// Marks whose canonical order is another: the library's own ordering would take hours.
TEST(TokenizerTest, LongRunsOfMarksTakeNoQuadraticTime) {
  constexpr int kMarks = 200'000;
  const auto made = MakeGoldenCase("pre-qwen2");
  ASSERT_TRUE(made.ok()) << made.status();
  std::string given = "e", ordered = "\u1EB9";  // the first mark joins its letter
  for (int i = 0; i < kMarks; ++i) given += i % 2 ? "\u0323" : "\u0301";
  for (int i = 1; i < kMarks; ++i) ordered += i < kMarks / 2 ? "\u0323" : "\u0301";
  EXPECT_TRUE(made->tokenizer->Decode(made->tokenizer->Encode(given, kPlain)) == ordered);
}

// Row E11 of the reliability table: vocabularies that lie.
TEST(TokenizerE11, IsRefusedByName) {
  TokenizerSpec spec = SmallSpec();
  spec.tokens[8] = "a";
  ExpectRefused(spec, "tokens[8]: must differ");
  spec = SmallSpec();
  spec.merges.push_back({"a", "zz"});
  ExpectRefused(spec, "merges[3]: both parts");
  spec = SmallSpec();
  spec.merges.push_back({"", "a"});
  ExpectRefused(spec, "merges[3]: both parts");
  spec = SmallSpec();
  spec.merges.push_back({"b", "a"});
  ExpectRefused(spec, "merges[3]: both parts");
  spec = SmallSpec();
  spec.merges.assign(1000, {"a", "b"});
  ExpectRefused(spec, "no more than there are ways to cut");
  spec = SmallSpec();
  spec.tokens.clear();
  spec.token_types.clear();
  ExpectRefused(spec, "tokens: 1 to");
  spec = SmallSpec();
  spec.tokens[8] = std::string(5000, 'x');
  ExpectRefused(spec, "at most 1024 bytes");
  spec = SmallSpec();
  spec.token_types.pop_back();
  ExpectRefused(spec, "token_type: one for each of 10 tokens; got 9");
  spec = SmallSpec();
  spec.pre_tokenizer = "martian";
  ExpectRefused(spec, "tokenizer.pre: must be a pre-tokeniser that we know; got martian");
}

TEST(TokenizerE11, IdsAndScoresAreChecked) {
  TokenizerSpec spec = SmallSpec();
  spec.eos_id = 10;
  ExpectRefused(spec, "eos_token_id: must be 0 to 9; got 10");
  spec = SmallSpec();
  spec.bos_id = -1;
  ExpectRefused(spec, "bos_token_id");
  spec = SmallSpec();
  spec.end_of_turn_ids = {1 << 30};
  ExpectRefused(spec, "end_of_turn_ids");
  spec = SmallSpec();
  spec.eos_id.reset();
  spec.add_eos = true;
  ExpectRefused(spec, "eos_token_id: must be given");
  spec = SmallSpec();
  spec.model = TokenizerSpec::Model::kSentencePieceBpe;
  ExpectRefused(spec, "scores: must be given");
  spec.scores.assign(spec.tokens.size(), 0.0f);
  spec.scores[2] = std::numeric_limits<float>::quiet_NaN();
  ExpectRefused(spec, "scores: must be numbers");
}

TEST(TokenizerE11, TokensThatAreNotTextAreHarmless) {
  for (const auto model : {TokenizerSpec::Model::kByteBpe, TokenizerSpec::Model::kSentencePieceBpe,
                           TokenizerSpec::Model::kMergedBpe}) {
    TokenizerSpec spec;
    spec.model = model;
    spec.tokens = {"", "\xFF", "\xE2\x96", "a", "<0xZZ>", std::string("\0", 1), "\xF0\x9F\x98"};
    spec.token_types = {1, 4, 3, 1, 6, 1, 1};
    spec.scores.assign(spec.tokens.size(), 0.0f);
    const auto tokenizer = Make(spec);
    for (const char* text : {"a", "\xFF\xE2\x96\xF0\x9F\x98", "a\xFF"}) {
      tokenizer->Decode(tokenizer->Encode(text, kParse), true);
    }
  }
}

// Row E11: a pattern that would not end, or that means something else to us.
TEST(TokenizerE11, RefusesPatternsThatItCannotServe) {
  for (const char* pattern : {"(a*)*b", "(a|aa)+$", "(x+x+)+y|(?:[a-z]+)*~~", "(", "[a[b]]",
                              "[\\p{L}&&[^a]]", "\\p{Nope}", "\\C"}) {
    const auto splitter = RegexSplitter::Compile(pattern);
    EXPECT_EQ(splitter.status().code(), absl::StatusCode::kFailedPrecondition) << pattern;
  }
  EXPECT_FALSE(RegexSplitter::Compile(std::string(20'000, 'a')).ok());
}

TEST(RegexSplitterTest, PastTheStepLimitTheRestIsOneWord) {
  // Quadratic at each place: harmless on short text, past any limit on long text.
  const auto splitter = RegexSplitter::Compile("a+a+a+a+b|c");
  ASSERT_TRUE(splitter.ok()) << splitter.status();
  RegexSplitter::Scratch scratch;
  std::vector<std::string_view> words;
  const std::string text = "xc" + std::string(3000, 'a');
  splitter->Split(text, &scratch, &words);
  EXPECT_THAT(words, ElementsAre("x", "c", std::string(3000, 'a')));
}

TEST(RegexSplitterTest, KeepsMatchesAndGaps) {
  const auto splitter = RegexSplitter::Compile("\\p{N}|(?=;)");
  ASSERT_TRUE(splitter.ok()) << splitter.status();
  RegexSplitter::Scratch scratch;
  std::vector<std::string_view> words;
  splitter->Split("ab12;\xC3\xA9", &scratch, &words);
  EXPECT_THAT(words, ElementsAre("ab", "1", "2", ";\xC3\xA9"));
}

TEST(PreTokenizersTest, EveryEntryCompiles) {
  for (const PreTokenizer& entry : AllPreTokenizers()) {
    for (const std::string_view pattern : entry.patterns) {
      const auto splitter = RegexSplitter::Compile(pattern);
      EXPECT_TRUE(splitter.ok()) << entry.name << ": " << splitter.status();
    }
  }
}

}  // namespace
}  // namespace pregate
