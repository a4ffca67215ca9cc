// Every line of the corpus against `tokenizers` and `sentencepiece` (make_goldens.py).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "engine/tokenizer/utf8.h"
#include "tests/tokenizer/cases.h"

namespace pregate {
namespace {

// 16 bits of FNV-1a over the ids, as make_goldens.py folds them.
uint16_t Fold(const std::vector<int32_t>& ids) {
  uint64_t value = 0xCBF29CE484222325u;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ (static_cast<uint32_t>(id) >> shift & 0xFF)) * 0x100000001B3u;
    }
  }
  value ^= value >> 32;
  return static_cast<uint16_t>(value ^ value >> 16);
}

class GoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, EveryLineAgrees) {
  const auto test_case = MakeGoldenCase(GetParam());
  if (test_case.status().code() == absl::StatusCode::kNotFound) {
    GTEST_SKIP() << test_case.status().message();
  }
  ASSERT_TRUE(test_case.ok()) << test_case.status();
  const std::vector<std::string> lines = CorpusLines();
  const std::string golden = ReadTestFile("goldens/" + GetParam() + ".bin");
  ASSERT_GE(lines.size(), 20'000u);
  ASSERT_EQ(golden.size(), lines.size() * sizeof(uint16_t));
  size_t differ = 0, compared = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const bool is_utf8 = ValidUtf8Prefix(lines[i]) == lines[i].size();
    if (test_case->utf8_only && !is_utf8) continue;
    if (test_case->no_nul && lines[i].find('\0') != std::string::npos) continue;
    uint16_t want;
    std::memcpy(&want, golden.data() + i * sizeof(want), sizeof(want));
    if (test_case->marked && want == Fold({})) continue;
    ++compared;
    const std::vector<int32_t> ids = test_case->tokenizer->Encode(lines[i], test_case->options);
    if (Fold(ids) == want || ++differ > 5) continue;
    ADD_FAILURE() << "line " << i << " (make_goldens.py show " << GetParam() << " " << i
                  << " tells the library's ids)\n  text " << testing::PrintToString(lines[i])
                  << "\n  ours " << testing::PrintToString(ids);
  }
  EXPECT_EQ(differ, 0u) << "of " << compared << " lines";
  EXPECT_GE(compared, 19'000u);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenTest, testing::ValuesIn(GoldenCaseNames()),
                         [](const testing::TestParamInfo<std::string>& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace pregate
