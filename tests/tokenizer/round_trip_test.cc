// Text back from ids: whatever the bytes, whatever the ids, one at a time or all at once.

#include <gtest/gtest.h>

#include <random>

#include "engine/tokenizer/utf8.h"
#include "tests/tokenizer/cases.h"

namespace pregate {
namespace {

const char* const kSmallCases[] = {"pre-gpt-2", "pre-llama-bpe", "llama2", "llama2-scores"};

std::unique_ptr<Tokenizer> MakeSmall(const std::string& name) {
  auto made = MakeGoldenCase(name);
  EXPECT_TRUE(made.ok()) << made.status();
  return std::move(made->tokenizer);
}

// Bytes of many kinds: letters, spaces, whole characters, cut ones, anything.
std::string RandomBytes(std::mt19937_64& random) {
  const char* const kParts[] = {
      "a",        "the ",     " ",        "\n",   "é",    "한", "😀",  "👩‍💻", "\xE2\x82",
      "\xF0\x9F", "\xED\xA0", "\xC0\xAF", "\xFF", "\x80", "'s", "12", "<s>",         "<|im_end|>"};
  std::string bytes;
  const int parts = std::uniform_int_distribution<>(0, 12)(random);
  for (int i = 0; i < parts; ++i) {
    const size_t choice = std::uniform_int_distribution<size_t>(0, 2 * std::size(kParts))(random);
    if (choice < std::size(kParts)) {
      bytes += kParts[choice];
    } else {
      bytes.push_back(static_cast<char>(random()));
    }
  }
  return bytes;
}

std::string LossyText(std::string_view bytes) {
  std::string text;
  if (AppendWholeCharacters(bytes, &text) < bytes.size()) text += kReplacementCharacter;
  return text;
}

class RoundTripTest : public testing::TestWithParam<const char*> {};

TEST_P(RoundTripTest, BytesComeBack) {
  const auto tokenizer = MakeSmall(GetParam());
  const bool prefixed = tokenizer->spec().add_space_prefix;
  std::mt19937_64 random(7);
  for (int i = 0; i < 30'000; ++i) {
    const std::string bytes = RandomBytes(random);
    const std::vector<int32_t> ids = tokenizer->Encode(bytes, {.add_special = false});
    std::string back;
    for (const int32_t id : ids) back += tokenizer->TokenBytes(id);
    ASSERT_EQ(back, (prefixed && !bytes.empty() ? " " : "") + bytes);
    ASSERT_EQ(tokenizer->Decode(ids), LossyText(bytes));
  }
}

TEST_P(RoundTripTest, OneAtATimeIsAllAtOnce) {
  const auto tokenizer = MakeSmall(GetParam());
  std::mt19937_64 random(11);
  std::uniform_int_distribution<int32_t> any_id(0, tokenizer->vocab_size() - 1);
  std::uniform_int_distribution<int32_t> byte_id(0, 300);  // where both vocabularies have bytes
  for (int i = 0; i < 30'000; ++i) {
    std::vector<int32_t> ids(random() % 12);
    for (int32_t& id : ids) id = random() % 2 ? byte_id(random) : any_id(random);
    const bool show_special = random() % 2;
    IncrementalDetokenizer detokenizer(tokenizer.get(), show_special);
    std::string bytes, text;
    for (const int32_t id : ids) {
      bytes += tokenizer->TokenBytes(id, show_special);
      const std::string delta = detokenizer.Add(id);
      ASSERT_EQ(ValidUtf8Prefix(delta), delta.size()) << "half a character";
      text += delta;
    }
    text += detokenizer.Finish();
    const bool strip = tokenizer->spec().add_space_prefix && bytes.starts_with(' ');
    ASSERT_EQ(text, LossyText(std::string_view(bytes).substr(strip ? 1 : 0)));
    ASSERT_EQ(text, tokenizer->Decode(ids, show_special));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, RoundTripTest, testing::ValuesIn(kSmallCases),
                         [](const testing::TestParamInfo<const char*>& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// U+FFFD for each maximal part: the examples of the Unicode Standard, section 3.9, table 3-8 to 11.
TEST(Utf8Test, ReplacesMaximalParts) {
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(LossyText("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(LossyText("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(LossyText("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(LossyText("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

TEST(IncrementalDetokenizerTest, GivesOutBrokenBytesAsSoonAsTheyAreBroken) {
  const auto tokenizer = MakeSmall("pre-gpt-2");
  // A byte that stands alone is its own token.
  const auto byte_id = [&](char byte) {
    return tokenizer->Encode(std::string(1, byte), {.add_special = false}).at(0);
  };
  IncrementalDetokenizer detokenizer(tokenizer.get());
  EXPECT_EQ(detokenizer.Add(byte_id('\xE2')), "");
  EXPECT_EQ(detokenizer.Add(byte_id('\x82')), "");
  EXPECT_EQ(detokenizer.Add(byte_id('\xAC')), "€");
  EXPECT_EQ(detokenizer.Add(byte_id('\xF0')), "");
  EXPECT_EQ(detokenizer.Add(byte_id('\xF0')), "\uFFFD");
  EXPECT_EQ(detokenizer.Add(byte_id('A')), "\uFFFDA");
  EXPECT_EQ(detokenizer.Add(byte_id('\x80')), "\uFFFD");
  EXPECT_EQ(detokenizer.Add(byte_id('\xE2')), "");
  EXPECT_EQ(detokenizer.Finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.Finish(), "");
}

}  // namespace
}  // namespace pregate
