// Stop strings, alone and behind the detokeniser, against a plain search of the whole text.
#include "server/generation/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "server/generation/answer_text.h"
#include "tests/server/byte_tokenizer.h"

namespace pregate {
namespace {

struct Ended {
  std::string text;
  bool matched = false;
};

// By the rule alone: the stop string that is complete first, of those the longest.
Ended NaiveEnd(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      const bool ends_here =
          end >= stop.size() && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends_here) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

// The most that may be given out of a text that has not ended: it must not end in what begins a
// stop string.
size_t NaiveHeldBack(const std::string& text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t k = 1; k < stop.size() && k <= text.size(); ++k) {
      if (text.compare(text.size() - k, k, stop, 0, k) == 0) longest = std::max(longest, k);
    }
  }
  return longest;
}

std::string RandomText(std::mt19937* random, size_t size, const std::vector<std::string>& letters) {
  std::string text;
  for (size_t i = 0; i < size; ++i) text += letters[(*random)() % letters.size()];
  return text;
}

TEST(StopMatcher, AgreesWithASearchOfTheWholeText) {
  std::mt19937 random(1);
  const std::vector<std::string> letters = {"a", "b", "ab"};
  int matches = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops(random() % 4);
    for (std::string& stop : stops) stop = RandomText(&random, 1 + random() % 6, letters);
    const std::string text = RandomText(&random, random() % 40, letters);
    const Ended expected = NaiveEnd(text, stops);

    StopMatcher matcher(stops);
    std::string given;
    for (size_t i = 0; i < text.size();) {
      const size_t piece = std::min<size_t>(1 + random() % 5, text.size() - i);
      given += matcher.Add(text.substr(i, piece));
      i += piece;
      if (!matcher.matched()) {
        ASSERT_EQ(given.size(), i - NaiveHeldBack(text.substr(0, i), stops)) << text;
      }
    }
    given += matcher.Finish();
    ASSERT_EQ(given, expected.text) << text;
    ASSERT_EQ(matcher.matched(), expected.matched) << text;
    matches += expected.matched;
  }
  EXPECT_GT(matches, 5000);
  EXPECT_LT(matches, 18000);
}

TEST(StopMatcher, TheFirstToBeCompleteWinsThenTheLonger) {
  StopMatcher inner({"abcd", "bc"});
  EXPECT_EQ(inner.Add("xabcd"), "xa");
  EXPECT_TRUE(inner.matched());
  StopMatcher longer({"c", "abc"});
  EXPECT_EQ(longer.Add("xabc"), "x");
  EXPECT_EQ(longer.Add("more"), "");
  EXPECT_EQ(longer.Finish(), "");
}

TEST(StopMatcher, AlmostMatchingCostsNoMoreThanBytes) {
  // Sixteen stop strings that almost match everywhere, against two megabytes.
  std::vector<std::string> stops(16, std::string(255, 'a'));
  for (size_t i = 0; i < stops.size(); ++i) stops[i] += static_cast<char>('b' + i);
  StopMatcher matcher(stops);
  const absl::Time start = absl::Now();
  size_t given = 0;
  for (int i = 0; i < 2048; ++i) given += matcher.Add(std::string(1024, 'a')).size();
  EXPECT_EQ(given, 2048u * 1024 - 255);
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));  // trying each place anew takes minutes
}

// One token at a time, cut anywhere, also within characters.
Ended ThroughTokens(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                    const std::vector<std::string>& stops) {
  AnswerText answer(&tokenizer, stops, 0);
  Ended ended;
  int32_t used = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    GenerationOutput output;
    output.token_ids = {ids[i]};
    if (i + 1 == ids.size()) output.finish = FinishReason::kLength;
    AnswerDelta delta;
    answer.Add(std::move(output), &delta);
    ended.text += delta.text;
    used += static_cast<int32_t>(delta.token_ids.size());
    if (delta.finish == FinishReason::kNone) continue;
    ended.matched = delta.finish == FinishReason::kStop;
    EXPECT_EQ(delta.completion_tokens, used);
    EXPECT_EQ(ended.matched, answer.stopped());
  }
  return ended;
}

TEST(AnswerText, StopsAcrossTokensAndCharacters) {
  const auto tokenizer = MakeByteTokenizer();
  const std::vector<std::string> letters = {"a", "\n", "\xC3\xA9", "\xE2\x82\xAC",
                                            "\xF0\x9F\x98\x80"};
  std::mt19937 random(2);
  int matches = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops(1 + random() % 3);
    for (std::string& stop : stops) stop = RandomText(&random, 1 + random() % 3, letters);
    const std::string text = RandomText(&random, 1 + random() % 20, letters);
    const std::vector<int32_t> ids =
        tokenizer->Encode(text, {.add_special = false, .parse_special = false});
    ASSERT_EQ(ids.size(), text.size());  // a token is a byte
    const Ended expected = NaiveEnd(text, stops);
    const Ended got = ThroughTokens(*tokenizer, ids, stops);
    ASSERT_EQ(got.text, expected.text);
    ASSERT_EQ(got.matched, expected.matched);
    matches += got.matched;
  }
  EXPECT_GT(matches, 500);
  EXPECT_LT(matches, 2900);
}

TEST(AnswerText, ACutCharacterIsReplacedAtTheEnd) {
  const auto tokenizer = MakeByteTokenizer();
  std::vector<int32_t> ids =
      tokenizer->Encode("a\xE2\x82\xAC", {.add_special = false, .parse_special = false});
  ids.pop_back();
  EXPECT_EQ(ThroughTokens(*tokenizer, ids, {}).text, "a\xEF\xBF\xBD");
  // What stands for it may itself be a stop string.
  const Ended stopped = ThroughTokens(*tokenizer, ids, {"\xEF\xBF\xBD"});
  EXPECT_EQ(stopped.text, "a");
  EXPECT_TRUE(stopped.matched);
}

TEST(AnswerText, StopStringsWaitForMinTokens) {
  const auto tokenizer = MakeByteTokenizer();
  AnswerText answer(tokenizer.get(), {"b"}, 3);
  AnswerDelta delta;
  for (const char letter : std::string("abcb")) {
    GenerationOutput output;
    output.token_ids =
        tokenizer->Encode(std::string(1, letter), {.add_special = false, .parse_special = false});
    answer.Add(std::move(output), &delta);
  }
  EXPECT_EQ(delta.text, "abc");
  EXPECT_TRUE(answer.stopped());
}

TEST(AnswerText, WhatIsHeldBackComesWithAnyEnd) {
  const auto tokenizer = MakeByteTokenizer();
  for (const FinishReason finish : {FinishReason::kLength, FinishReason::kCancelled,
                                    FinishReason::kDeadline, FinishReason::kError}) {
    AnswerText answer(tokenizer.get(), {"xyz"}, 0);
    AnswerDelta delta;
    GenerationOutput output;
    output.token_ids = tokenizer->Encode("axy", {.add_special = false, .parse_special = false});
    answer.Add(std::move(output), &delta);
    EXPECT_EQ(delta.text, "a");
    GenerationOutput end;
    end.finish = finish;
    answer.Add(std::move(end), &delta);
    EXPECT_EQ(delta.text, "axy");
    EXPECT_EQ(delta.finish, finish);
  }
}

}  // namespace
}  // namespace pregate
