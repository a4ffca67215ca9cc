// Answers as OpenAI's API words them: whole, in pieces, with log-probabilities, cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "server/openai/chat_format.h"
#include "server/openai/completion_format.h"
#include "tests/server/byte_tokenizer.h"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;

const Tokenizer& Bytes() {
  static const std::unique_ptr<Tokenizer> tokenizer = MakeByteTokenizer();
  return *tokenizer;
}

AnswerFrame Frame(bool stream, bool include_usage = false) {
  AnswerFrame frame;
  frame.id = "x-1";
  frame.object = "thing";
  frame.created = 7;
  frame.model = "a\"b";
  frame.stream = {stream, include_usage};
  return frame;
}

AnswerDelta Delta(int index, const std::string& text, FinishReason finish = FinishReason::kNone) {
  AnswerDelta delta;
  delta.index = index;
  delta.text = text;
  for (const char byte : text) delta.token_ids.push_back(static_cast<unsigned char>(byte));
  delta.finish = finish;
  if (finish != FinishReason::kNone) {
    delta.prompt_tokens = 5;
    delta.cached_prompt_tokens = 2;
    delta.completion_tokens = 3;
  }
  return delta;
}

PositionLogprobs Position(TokenLogprob chosen, std::vector<TokenLogprob> top) {
  PositionLogprobs position;
  position.chosen = chosen;
  position.top = std::move(top);
  return position;
}

// A log-probability for each token, with the byte after it as the other likely one.
AnswerDelta WithLogprobs(AnswerDelta delta) {
  for (const int32_t id : delta.token_ids) {
    delta.logprobs.push_back(Position({id, -0.5f}, {{id, -0.5f}, {id + 1, -1.5f}}));
  }
  return delta;
}

// The data of each event.
std::vector<std::string> Events(const std::string& text) {
  std::vector<std::string> events;
  for (const absl::string_view event : absl::StrSplit(text, "\n\n", absl::SkipEmpty())) {
    EXPECT_TRUE(absl::StartsWith(event, "data: ")) << event;
    events.emplace_back(event.substr(6));
  }
  return events;
}

CompletionRequest Prompts(int count, bool logprobs = false) {
  CompletionRequest request;
  request.prompts.resize(count);
  request.logprobs = logprobs;
  return request;
}

TEST(ChatFormat, WholeAnswer) {
  ChatFormat format(&Bytes(), Frame(false), 2, false);
  EXPECT_EQ(format.Add(0, Delta(1, "b\xC3\xA9\n\"", FinishReason::kLength)), "");
  EXPECT_EQ(format.Add(0, Delta(0, "a", FinishReason::kStop)), "");
  const json answer = json::parse(format.End(absl::OkStatus()));
  EXPECT_EQ(answer["id"], "x-1");
  EXPECT_EQ(answer["object"], "thing");
  EXPECT_EQ(answer["created"], 7);
  EXPECT_EQ(answer["model"], "a\"b");
  EXPECT_EQ(answer["choices"][0],
            json({{"index", 0},
                  {"message", {{"role", "assistant"}, {"content", "a"}, {"refusal", nullptr}}},
                  {"logprobs", nullptr},
                  {"finish_reason", "stop"}}));
  EXPECT_EQ(answer["choices"][1]["message"]["content"], "b\xC3\xA9\n\"");
  EXPECT_EQ(answer["choices"][1]["finish_reason"], "length");
  // The prompt of two answers counts once.
  EXPECT_EQ(answer["usage"], json({{"prompt_tokens", 5},
                                   {"completion_tokens", 6},
                                   {"total_tokens", 11},
                                   {"prompt_tokens_details", {{"cached_tokens", 2}}}}));
}

TEST(ChatFormat, StreamedAnswer) {
  ChatFormat format(&Bytes(), Frame(true, true), 1, false);
  std::string text = format.Add(0, Delta(0, "Hi"));
  AnswerDelta held = Delta(0, "x");
  held.text.clear();
  EXPECT_EQ(format.Add(0, held), "");  // a token whose text is not sure yet
  text += format.Add(0, Delta(0, "!", FinishReason::kStop));
  text += format.End(absl::OkStatus());
  const std::vector<std::string> events = Events(text);
  ASSERT_EQ(events.size(), 5u);
  const auto choice = [&](int i) { return json::parse(events[i])["choices"][0]; };
  EXPECT_EQ(choice(0)["delta"], json({{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(choice(1), json({{"index", 0},
                             {"delta", {{"content", "Hi"}}},
                             {"logprobs", nullptr},
                             {"finish_reason", nullptr}}));
  EXPECT_EQ(choice(2)["finish_reason"], "stop");
  EXPECT_EQ(json::parse(events[2])["usage"], nullptr);
  EXPECT_EQ(json::parse(events[3])["choices"], json::array());
  EXPECT_EQ(json::parse(events[3])["usage"]["total_tokens"], 8);
  EXPECT_EQ(events[4], "[DONE]");
}

TEST(ChatFormat, UsageOnlyWhereAskedFor) {
  ChatFormat format(&Bytes(), Frame(true), 1, false);
  std::string text = format.Add(0, Delta(0, "a", FinishReason::kStop));
  text += format.End(absl::OkStatus());
  EXPECT_THAT(text, ::testing::Not(::testing::HasSubstr("usage")));
}

TEST(ChatFormat, ACutStreamIsNotDone) {
  ChatFormat format(&Bytes(), Frame(true, true), 1, false);
  std::string text = format.Add(0, Delta(0, "a", FinishReason::kError));
  text += format.End(absl::UnavailableError("server: drain timeout"));
  const std::vector<std::string> events = Events(text);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(json::parse(events[1])["choices"][0]["finish_reason"], nullptr);
  EXPECT_EQ(json::parse(events[2])["error"]["message"], "server: drain timeout");
}

TEST(ChatFormat, Logprobs) {
  for (const bool stream : {false, true}) {
    ChatFormat format(&Bytes(), Frame(stream), 1, true);
    std::string text = format.Add(0, WithLogprobs(Delta(0, "\xC3\xA9", FinishReason::kStop)));
    text += format.End(absl::OkStatus());
    const json answer = json::parse(stream ? Events(text)[1] : text);
    const json& content = answer["choices"][0]["logprobs"]["content"];
    ASSERT_EQ(content.size(), 2u);
    EXPECT_EQ(content[0]["token"], "bytes:\\xc3");
    EXPECT_EQ(content[0]["bytes"], json({0xC3}));
    EXPECT_EQ(content[0]["logprob"], -0.5);
    ASSERT_EQ(content[0]["top_logprobs"].size(), 2u);
    EXPECT_EQ(content[0]["top_logprobs"][1]["token"], "bytes:\\xc4");
    EXPECT_EQ(content[0]["top_logprobs"][1]["logprob"], -1.5);
  }
}

TEST(CompletionFormat, ChoicesOfSeveralPrompts) {
  CompletionFormat format(&Bytes(), Frame(false), 2, Prompts(2));
  for (const int prompt : {1, 0}) {
    for (const int index : {0, 1}) {
      format.Add(prompt, Delta(index, std::string(1, static_cast<char>('a' + 2 * prompt + index)),
                               FinishReason::kStop));
    }
  }
  const json answer = json::parse(format.End(absl::OkStatus()));
  std::string texts;
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(answer["choices"][i]["index"], i);
    texts += answer["choices"][i]["text"];
  }
  EXPECT_EQ(texts, "abcd");
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 10);  // two prompts
  EXPECT_EQ(answer["usage"]["completion_tokens"], 12);
}

TEST(CompletionFormat, StreamedAnswer) {
  CompletionRequest request = Prompts(1);
  request.echo = {{"Say ", {'S', 'a', 'y', ' '}}};
  CompletionFormat format(&Bytes(), Frame(true), 1, request);
  std::string text = format.Add(0, Delta(0, "a"));
  text += format.Add(0, Delta(0, "b", FinishReason::kLength));
  text += format.End(absl::OkStatus());
  const std::vector<std::string> events = Events(text);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(
      json::parse(events[0])["choices"][0],
      json({{"index", 0}, {"text", "Say a"}, {"logprobs", nullptr}, {"finish_reason", nullptr}}));
  EXPECT_EQ(json::parse(events[1])["choices"][0]["text"], "b");
  EXPECT_EQ(json::parse(events[1])["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(events[2], "[DONE]");
}

TEST(CompletionFormat, LogprobsOfPromptAndAnswer) {
  CompletionRequest request = Prompts(1, true);
  request.echo = {{"\xC3\xA9z", {0xC3, 0xA9, 'z'}}};
  CompletionFormat format(&Bytes(), Frame(false), 1, request);
  AnswerDelta delta = WithLogprobs(Delta(0, "a", FinishReason::kLength));
  delta.prompt_logprobs = {Position({0xA9, -2.0f}, {{0xA8, -0.25f}}), Position({'z', -1.0f}, {})};
  format.Add(0, delta);
  const json choice = json::parse(format.End(absl::OkStatus()))["choices"][0];
  EXPECT_EQ(choice["text"], "\xC3\xA9za");
  const json& logprobs = choice["logprobs"];
  EXPECT_THAT(logprobs["tokens"].get<std::vector<std::string>>(),
              ElementsAre("bytes:\\xc3", "bytes:\\xa9", "z", "a"));
  EXPECT_EQ(logprobs["token_logprobs"], json({nullptr, -2.0, -1.0, -0.5}));
  EXPECT_EQ(logprobs["top_logprobs"][0], nullptr);
  // The chosen one stands among the likeliest even if it is not one of them.
  EXPECT_EQ(logprobs["top_logprobs"][1], json({{"bytes:\\xa8", -0.25}, {"bytes:\\xa9", -2.0}}));
  EXPECT_EQ(logprobs["top_logprobs"][3], json({{"a", -0.5}, {"b", -1.5}}));
  EXPECT_EQ(logprobs["text_offset"], json({0, 0, 1, 2}));
}

TEST(CompletionFormat, LogprobsOfNamedTokens) {
  CompletionFormat format(&Bytes(), Frame(false), 1, Prompts(1, true));
  AnswerDelta delta = WithLogprobs(Delta(0, "a", FinishReason::kLength));
  delta.logprobs[0].wanted = {{'y', -7.0f}, {'b', -1.5f}};
  format.Add(0, delta);
  const json choice = json::parse(format.End(absl::OkStatus()))["choices"][0];
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][0], json({{"a", -0.5}, {"b", -1.5}, {"y", -7.0}}));
  EXPECT_FALSE(choice.contains("prompt_logprobs"));
}

TEST(CompletionFormat, PromptLogprobsInAFieldOfTheirOwn) {
  CompletionRequest request = Prompts(1);
  request.prompt_logprobs = true;
  CompletionFormat format(&Bytes(), Frame(false), 2, request);
  AnswerDelta delta = Delta(0, "a", FinishReason::kLength);
  delta.prompt_logprobs = {Position({'b', -2.0f}, {{'c', -0.25f}}), Position({'d', -1.0f}, {})};
  format.Add(0, delta);
  format.Add(0, Delta(1, "z", FinishReason::kLength));
  const json choices = json::parse(format.End(absl::OkStatus()))["choices"];
  const json first = {{"99", {{"logprob", -0.25}, {"rank", 1}, {"decoded_token", "c"}}},
                      {"98", {{"logprob", -2.0}, {"rank", nullptr}, {"decoded_token", "b"}}}};
  EXPECT_EQ(choices[0]["prompt_logprobs"][0], nullptr);
  EXPECT_EQ(choices[0]["prompt_logprobs"][1], first);
  EXPECT_EQ(choices[0]["prompt_logprobs"][2]["100"]["logprob"], -1.0);
  // It is the same prompt.
  EXPECT_EQ(choices[1]["prompt_logprobs"], choices[0]["prompt_logprobs"]);
}

TEST(ChatFormat, PromptLogprobsAndNamedTokens) {
  ChatFormat format(&Bytes(), Frame(false), 1, true, true);
  AnswerDelta delta = WithLogprobs(Delta(0, "a", FinishReason::kStop));
  delta.logprobs[0].wanted = {{'y', -7.0f}};
  delta.prompt_logprobs = {Position({'b', -2.0f}, {})};
  format.Add(0, delta);
  const json whole = json::parse(format.End(absl::OkStatus()));
  const json& top = whole["choices"][0]["logprobs"]["content"][0]["top_logprobs"];
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[2]["token"], "y");
  EXPECT_EQ(whole["prompt_logprobs"].size(), 2u);
  EXPECT_EQ(whole["prompt_logprobs"][1]["98"]["logprob"], -2.0);
}

TEST(CompletionFormat, LogprobsOfAStream) {
  CompletionFormat format(&Bytes(), Frame(true), 1, Prompts(1, true));
  std::string text = format.Add(0, WithLogprobs(Delta(0, "ab")));
  text += format.Add(0, WithLogprobs(Delta(0, "c", FinishReason::kStop)));
  const std::vector<std::string> events = Events(text);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(json::parse(events[0])["choices"][0]["logprobs"]["text_offset"], json({0, 1}));
  EXPECT_EQ(json::parse(events[1])["choices"][0]["logprobs"]["text_offset"], json({2}));
  EXPECT_EQ(json::parse(events[1])["choices"][0]["logprobs"]["tokens"], json({"c"}));
}

TEST(AnswerWords, TokensAndNumbers) {
  EXPECT_EQ(TokenName(Bytes(), 'a'), "a");
  EXPECT_EQ(TokenName(Bytes(), 256), "<|end|>");
  EXPECT_EQ(TokenName(Bytes(), 0xE2), "bytes:\\xe2");
  EXPECT_EQ(JsonLogprob(-std::numeric_limits<float>::infinity()), -9999.0);
  EXPECT_NE(NewAnswerId("cmpl-"), NewAnswerId("cmpl-"));
}

}  // namespace
}  // namespace pregate
