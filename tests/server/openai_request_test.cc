// OpenAI's JSON to requests: what is understood, what is refused, and how that is worded.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/openai/chat_request.h"
#include "server/openai/completion_request.h"
#include "server/openai/json_body.h"
#include "server/openai/openai_error.h"
#include "tests/server/random_server.h"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::StartsWith;

constexpr int32_t kMaxModelLen = 100;

RandomServer& Served() {
  static RandomServer* server = [] {
    EngineOptions options;
    options.max_model_len = kMaxModelLen;
    return new RandomServer(options);
  }();
  return *server;
}

absl::StatusOr<CompletionRequest> Completion(const std::string& body) {
  absl::StatusOr<json> parsed = ParseJsonBody(body);
  if (!parsed.ok()) return parsed.status();
  return ReadCompletionRequest(*parsed, Served().model);
}

absl::StatusOr<ChatRequest> Chat(const std::string& body) {
  absl::StatusOr<json> parsed = ParseJsonBody(body);
  if (!parsed.ok()) return parsed.status();
  return ReadChatRequest(*parsed, kMaxModelLen);
}

// A body with `fields` beside what must be there.
absl::StatusOr<CompletionRequest> CompletionWith(const std::string& fields) {
  return Completion(absl::StrCat(R"({"prompt": "Hi", )", fields, "}"));
}
absl::StatusOr<ChatRequest> ChatWith(const std::string& fields) {
  return Chat(absl::StrCat(R"({"messages": [{"role": "user", "content": "Hi"}], )", fields, "}"));
}

std::string MessageOf(const absl::Status& status, absl::StatusCode code) {
  EXPECT_EQ(status.code(), code) << status;
  return std::string(status.message());
}

// --- The body as JSON ---

TEST(JsonBody, A21_WhatIsNoJson) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "{}x",
                           "{} {}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{'a':1}",
                           "{a:1}",
                           "[1,2",
                           "nul",
                           "{\"a\":NaN}",
                           "{\"a\":Infinity}",
                           "{\"a\":01}",
                           "{\"a\":1.}",
                           "{\"a\":+1}",
                           "{\"a\":0x1}",
                           "{\"a\":\"\\ud800\"}",
                           "{\"a\":\"\xff\"}",
                           "{\"a\":\"\xc0\x80\"}",
                           "{\"a\":\"\n\"}",
                           "// c\n{}",
                           "\xef\xbb\xbf",
                           "{\"a\":1e999}"}) {
    EXPECT_THAT(MessageOf(ParseJsonBody(text).status(), absl::StatusCode::kInvalidArgument),
                StartsWith("body: must be JSON"))
        << text;
  }
  for (const char* text : {"[]", "1", "null", "\"a\"", "true"}) {
    EXPECT_THAT(MessageOf(ParseJsonBody(text).status(), absl::StatusCode::kInvalidArgument),
                StartsWith("body: must be a JSON object; got"))
        << text;
  }
}

TEST(JsonBody, A21_WhatIsNamedTwice) {
  EXPECT_EQ(MessageOf(ParseJsonBody(R"({"n": 1, "b": {}, "n": 99})").status(),
                      absl::StatusCode::kInvalidArgument),
            "body: must name a field once; got \"n\"");
  EXPECT_FALSE(ParseJsonBody(R"({"a": [{"b": 1, "b": 1}]})").ok());
  EXPECT_FALSE(ParseJsonBody(R"({"b": 1, "\u0062": 1})").ok());
  EXPECT_TRUE(ParseJsonBody(R"({"a": {"b": 1}, "b": {"a": 1}})").ok());
}

TEST(JsonBody, A21_DepthAndSizeAreBounded) {
  const auto nested = [](int depth) {
    return absl::StrCat("{\"a\":", std::string(depth - 1, '['), std::string(depth - 1, ']'), "}");
  };
  EXPECT_TRUE(ParseJsonBody(nested(kMaxJsonDepth)).ok());
  EXPECT_THAT(MessageOf(ParseJsonBody(nested(kMaxJsonDepth + 1)).status(),
                        absl::StatusCode::kInvalidArgument),
              StartsWith("body: must be at most 64 levels deep"));
  EXPECT_FALSE(ParseJsonBody(std::string(100000, '[')).ok());
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_FALSE(ParseJsonBody(objects).ok());
  std::string many = "{\"a\":[0";
  for (int64_t i = 0; i < kMaxJsonValues; ++i) many += ",0";
  EXPECT_THAT(MessageOf(ParseJsonBody(many + "]}").status(), absl::StatusCode::kInvalidArgument),
              StartsWith("body: must have at most 1048576 values"));
}

TEST(JsonBody, A21_TimeIsProportionate) {
  for (const std::string& body :
       {"{\"a\":" + std::string(10'000'000, '9') + "}",
        "{\"a\":0." + std::string(10'000'000, '0') + "1}",
        "{\"a\":\"" + std::string(10'000'000, 'x') + "\"}", std::string(10'000'000, ' ') + "{}",
        std::string(10'000'000, '[')}) {
    const absl::Time start = absl::Now();
    static_cast<void>(ParseJsonBody(body));
    EXPECT_LT(absl::Now() - start, absl::Milliseconds(50) * 10);
  }
}

// --- Sampling fields ---

TEST(OpenAiRequest, EveryFieldIsTaken) {
  const auto request = CompletionWith(
      R"("model": "random", "max_tokens": 7, "min_tokens": 3, "n": 2, "temperature": 0.5,
         "top_k": 40, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8, "repetition_penalty": 1.1,
         "presence_penalty": 0.25, "frequency_penalty": -0.5, "seed": 18446744073709551615,
         "stop": ["a", "b"], "stop_token_ids": [3, 4], "ignore_eos": true, "logprobs": 5,
         "logit_bias": {"7": -100, "5": 1.5}, "priority": -3, "cache_salt": "me", "user": "x",
         "stream": true, "stream_options": {"include_usage": true}, "unknown": {"a": [1]})");
  ASSERT_TRUE(request.ok()) << request.status();
  ASSERT_EQ(request->prompts.size(), 1u);
  const ClientRequest& one = request->prompts[0];
  EXPECT_EQ(std::get<std::string>(one.prompt), "Hi");
  EXPECT_EQ(one.model, "random");
  EXPECT_EQ(one.max_tokens, 7);
  EXPECT_EQ(one.min_tokens, 3);
  EXPECT_EQ(one.n, 2);
  EXPECT_EQ(one.sampling.temperature, 0.5f);
  EXPECT_EQ(one.sampling.top_k, 40);
  EXPECT_EQ(one.sampling.top_p, 0.9f);
  EXPECT_EQ(one.sampling.min_p, 0.1f);
  EXPECT_EQ(one.sampling.typical_p, 0.8f);
  EXPECT_EQ(one.sampling.repetition_penalty, 1.1f);
  EXPECT_EQ(one.sampling.presence_penalty, 0.25f);
  EXPECT_EQ(one.sampling.frequency_penalty, -0.5f);
  EXPECT_EQ(one.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(one.stop, ElementsAre("a", "b"));
  EXPECT_THAT(one.stop_ids, ElementsAre(3, 4));
  EXPECT_TRUE(one.ignore_eos);
  EXPECT_EQ(one.logprobs, 5);
  EXPECT_EQ(one.prompt_logprobs, std::nullopt);
  EXPECT_THAT(one.sampling.logit_bias, ElementsAre(Pair(5, 1.5f), Pair(7, -100.0f)));
  EXPECT_EQ(one.priority, -3);
  EXPECT_EQ(one.tenant, "me");
  EXPECT_TRUE(request->stream.stream);
  EXPECT_TRUE(request->stream.include_usage);
  EXPECT_TRUE(request->logprobs);
}

TEST(OpenAiRequest, DefaultsAreOpenAis) {
  const auto completion = CompletionWith(R"("temperature": null, "stop": null, "n": null)");
  ASSERT_TRUE(completion.ok()) << completion.status();
  EXPECT_EQ(completion->prompts[0].max_tokens, 16);
  EXPECT_EQ(completion->prompts[0].sampling.temperature, 1.0f);
  EXPECT_EQ(completion->prompts[0].n, 1);
  EXPECT_FALSE(completion->stream.stream);
  const auto chat = ChatWith(R"("max_tokens": null)");
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->request.max_tokens, kMaxModelLen);
  EXPECT_EQ(ChatWith(R"("max_completion_tokens": 5)")->request.max_tokens, 5);
  EXPECT_EQ(CompletionWith(R"("stop": "x")")->prompts[0].stop.size(), 1u);
  EXPECT_EQ(CompletionWith(R"("seed": -1)")->prompts[0].seed, std::numeric_limits<uint64_t>::max());
}

TEST(OpenAiRequest, WrongTypesAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("max_tokens": 1.5)",
       "max_tokens: must be an integer in [-9223372036854775808, "
       "9223372036854775807]; got 1.5"},
      {R"("max_tokens": "5")",
       "max_tokens: must be an integer in [-9223372036854775808, "
       "9223372036854775807]; got \"5\""},
      {R"("max_tokens": 9223372036854775808)", "max_tokens: must be an integer in"},
      {R"("max_tokens": 1e3)", "max_tokens: must be an integer in"},
      {R"("max_tokens": true)", "max_tokens: must be an integer in"},
      {R"("n": 2147483648)", "n: must be an integer in [-2147483648, 2147483647]; got 2147483648"},
      {R"("n": [1])", "n: must be an integer in [-2147483648, 2147483647]; got a list of 1"},
      {R"("temperature": "hot")", "temperature: must be a number; got \"hot\""},
      {R"("temperature": {})", "temperature: must be a number; got an object"},
      {R"("stream": 1)", "stream: must be true or false; got 1"},
      {R"("model": 5)", "model: must be a string; got 5"},
      {R"("seed": 1.0)", "seed: must be an integer of 64 bits; got 1.0"},
      {R"("stop": 5)", "stop: must be a string or a list of strings; got 5"},
      {R"("stop": ["a", 5])", "stop[1]: must be a string; got 5"},
      {R"("stop": "")", "stop: must not be empty; got \"\""},
      {R"("stop": ["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"])",
       "stop: must have at most 16 entries; got 17"},
      {R"("stop_token_ids": 5)", "stop_token_ids: must be a list of token ids; got 5"},
      {R"("stop_token_ids": [1, -1])",
       "stop_token_ids[1]: must be an integer in [0, 2147483647]; got -1"},
      {R"("stop_token_ids": [4294967296])", "stop_token_ids[0]: must be an integer in"},
      {R"("logit_bias": [])", "logit_bias: must be an object; got a list of 0"},
      {R"("logit_bias": {"a": 1})",
       "logit_bias: must be keyed by integers in [0, 2147483647]; got \"a\""},
      {R"("logit_bias": {"-1": 1})", "logit_bias: must be keyed by integers in"},
      {R"("logit_bias": {"1": "2"})", "logit_bias.1: must be a number; got \"2\""},
      {R"("stream_options": {"include_usage": true})",
       "stream_options: must be an object, with `stream` true; got an object"},
      {R"("stream": true, "stream_options": {"include_usage": 5})",
       "stream_options.include_usage: must be true or false; got 5"},
      {R"("echo": "yes")", "echo: must be true or false; got \"yes\""},
      {R"("logprobs": true)", "logprobs: must be an integer in"},
  };
  for (const auto& [fields, message] : cases) {
    EXPECT_THAT(MessageOf(CompletionWith(fields).status(), absl::StatusCode::kInvalidArgument),
                StartsWith(message))
        << fields;
  }
  std::string biases = "\"logit_bias\": {\"0\": 0";
  for (int i = 1; i <= kMaxLogitBias; ++i) absl::StrAppend(&biases, ",\"", i, "\": 0");
  EXPECT_EQ(MessageOf(CompletionWith(biases + "}").status(), absl::StatusCode::kInvalidArgument),
            "logit_bias: must have at most 1024 entries; got 1025");
}

TEST(OpenAiRequest, NumbersThatNoFloatHoldsAreOutOfEveryRange) {
  const auto request = CompletionWith(R"("temperature": 1e300, "top_p": -1e300)");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->prompts[0].sampling.temperature, std::numeric_limits<float>::infinity());
  EXPECT_EQ(request->prompts[0].sampling.top_p, -std::numeric_limits<float>::infinity());
}

TEST(OpenAiRequest, UnservedFieldsAreRefusedByName) {
  for (const char* fields :
       {R"("tools": [{"type": "function"}])", R"("functions": [{}])", R"("best_of": 2)",
        R"("suffix": "x")", R"("response_format": {"type": "json_object"})",
        R"("response_format": {"type": "json_schema", "json_schema": {}})",
        R"("tool_choice": "required")", R"("modalities": ["text", "audio"])", R"("audio": {})",
        R"("web_search_options": {})", R"("chat_template": "{{ x }}")",
        R"("chat_template_kwargs": {"a": 1})", R"("guided_json": {})", R"("store": true)",
        R"("add_generation_prompt": false)", R"("skip_special_tokens": false)"}) {
    const std::string name = std::string(fields).substr(1, std::string(fields).find('"', 1) - 1);
    for (const absl::Status& status :
         {ChatWith(fields).status(), CompletionWith(fields).status()}) {
      EXPECT_THAT(MessageOf(status, absl::StatusCode::kUnimplemented),
                  StartsWith(name + ": must be absent"))
          << fields;
    }
  }
}

TEST(OpenAiRequest, UnservedFieldsMayAskForNothing) {
  const char* fields =
      R"("tools": null, "functions": [], "tool_choice": "none", "best_of": 1, "suffix": null,
         "response_format": {"type": "text"}, "modalities": ["text"], "audio": null,
         "store": false, "chat_template": null, "chat_template_kwargs": {},
         "add_generation_prompt": true, "skip_special_tokens": true, "length_penalty": 1)";
  EXPECT_TRUE(ChatWith(fields).ok()) << ChatWith(fields).status();
  EXPECT_TRUE(CompletionWith(fields).ok()) << CompletionWith(fields).status();
}

// --- Prompts ---

TEST(OpenAiRequest, PromptsOfEveryForm) {
  const auto prompts = [](const std::string& prompt) {
    const auto request = Completion(absl::StrCat("{\"prompt\": ", prompt, "}"));
    EXPECT_TRUE(request.ok()) << request.status();
    return request->prompts;
  };
  EXPECT_EQ(prompts(R"("a")").size(), 1u);
  EXPECT_EQ(prompts(R"(["a", "b", "c"])").size(), 3u);
  EXPECT_EQ(std::get<std::string>(prompts(R"(["a", "b"])")[1].prompt), "b");
  EXPECT_THAT(std::get<std::vector<int32_t>>(prompts("[1, 2]")[0].prompt), ElementsAre(1, 2));
  EXPECT_THAT(std::get<std::vector<int32_t>>(prompts("[[1], [2, 3]]")[1].prompt),
              ElementsAre(2, 3));
  EXPECT_EQ(prompts(R"(["a", [1]])").size(), 2u);
}

TEST(OpenAiRequest, BadPromptsAreNamed) {
  const auto refusal = [](const std::string& prompt) {
    return MessageOf(Completion(absl::StrCat("{\"prompt\": ", prompt, "}")).status(),
                     absl::StatusCode::kInvalidArgument);
  };
  EXPECT_THAT(refusal("null"), StartsWith("prompt: must be a string, a list"));
  EXPECT_THAT(refusal("5"), StartsWith("prompt: must be a string, a list"));
  EXPECT_THAT(refusal("[]"), StartsWith("prompt: must be a string, a list"));
  EXPECT_THAT(refusal("[true]"), StartsWith("prompt[0]: must be a string or a list of token ids"));
  EXPECT_THAT(refusal(R"(["a", 5])"), StartsWith("prompt[1]: must be a string or a list"));
  EXPECT_THAT(refusal("[1, -5]"), StartsWith("prompt[1]: must be an integer in [0, 2147483647]"));
  EXPECT_THAT(refusal("[1, 2.0]"), StartsWith("prompt[1]: must be an integer in"));
  EXPECT_THAT(refusal(R"([1, "a"])"), StartsWith("prompt[1]: must be an integer in"));
  EXPECT_THAT(refusal("[[1], [1, 4294967296]]"), StartsWith("prompt[1][1]: must be an integer"));
  std::string many = "[\"a\"", ids = "[1";
  for (int i = 0; i < 64; ++i) many += ",\"a\"";
  for (int i = 0; i < kMaxModelLen; ++i) ids += ",1";
  EXPECT_EQ(refusal(many + "]"), "prompt: must have at most 64 entries; got 65");
  EXPECT_THAT(refusal(ids + "]"), HasSubstr("context_length_exceeded"));
}

TEST(OpenAiRequest, EchoReadsThePromptToo) {
  const auto request = Completion(
      R"({"prompt": ["Hi", [72, 105, 33]], "echo": true, "logprobs": 1, "max_tokens": 0})");
  ASSERT_TRUE(request.ok()) << request.status();
  ASSERT_EQ(request->echo.size(), 2u);
  EXPECT_EQ(request->echo[0].text, "Hi");
  EXPECT_EQ(request->echo[1].text, "Hi!");
  EXPECT_EQ(std::get<std::vector<int32_t>>(request->prompts[0].prompt), request->echo[0].ids);
  EXPECT_EQ(request->prompts[0].prompt_logprobs, 1);
  EXPECT_EQ(request->prompts[0].logprobs, 1);
  EXPECT_EQ(request->prompts[0].max_tokens, 0);
  EXPECT_EQ(CompletionWith(R"("echo": true, "max_tokens": 0)")->prompts[0].prompt_logprobs, 0);
  EXPECT_EQ(CompletionWith(R"("echo": true)")->prompts[0].prompt_logprobs, std::nullopt);
  EXPECT_TRUE(CompletionWith(R"("echo": false)")->echo.empty());
  EXPECT_EQ(CompletionWith(R"("echo": true, "logprobs": 1, "prompt_logprobs": 3)")
                ->prompts[0]
                .prompt_logprobs,
            3);
}

TEST(OpenAiRequest, LogprobsOfAllPromptsTogetherAreBounded) {
  const auto ask = [](int top) {
    const std::vector<std::vector<int>> prompts(64, std::vector<int>(kMaxModelLen, 65));
    return Completion(nlohmann::json{{"prompt", prompts}, {"prompt_logprobs", top}}.dump())
        .status();
  };
  EXPECT_TRUE(ask(20).ok());
  EXPECT_EQ(
      std::string(ask(420).message()),
      "prompt_logprobs: must be at most 16777216 bytes for all prompts together; got 16840000");
}

TEST(OpenAiRequest, LogprobsOfPromptsAndOfNamedTokens) {
  const auto asked = CompletionWith(R"("prompt_logprobs": 2, "logprob_token_ids": [1, 2])");
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_TRUE(asked->prompt_logprobs);
  EXPECT_EQ(asked->prompts[0].prompt_logprobs, 2);
  EXPECT_TRUE(asked->logprobs);
  EXPECT_EQ(asked->prompts[0].sampling.logprob_token_ids, (std::vector<int32_t>{1, 2}));
  EXPECT_FALSE(CompletionWith(R"("max_tokens": 3)")->prompt_logprobs);
  EXPECT_EQ(CompletionWith(R"("prompt_logprobs": 0, "stream": true)").status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(CompletionWith(R"("logprob_token_ids": 7)").status().message(),
            "logprob_token_ids: must be a list of token ids; got 7");
  EXPECT_THAT(MessageOf(CompletionWith(R"("echo": true, "logprobs": 0, "stream": true)").status(),
                        absl::StatusCode::kUnimplemented),
              StartsWith("echo: must be false in a stream"));
  EXPECT_THAT(MessageOf(Completion(R"({"prompt": [[99999]], "echo": true})").status(),
                        absl::StatusCode::kInvalidArgument),
              StartsWith("ids[0]: must be in [0, "));
}

// --- Conversations ---

TEST(OpenAiRequest, MessagesOfEveryForm) {
  const auto chat = Chat(R"({"messages": [
      {"role": "system", "content": "Be kind."},
      {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "a"},
                                                  {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": "c", "refusal": null, "tool_calls": null},
      {"role": "user", "content": []}], "logprobs": true, "top_logprobs": 3})");
  ASSERT_TRUE(chat.ok()) << chat.status();
  const auto& messages = std::get<std::vector<ChatMessage>>(chat->request.prompt);
  ASSERT_EQ(messages.size(), 4u);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_EQ(messages[1].content, "a\nb");
  EXPECT_EQ(messages[2].content, "c");
  EXPECT_EQ(messages[3].content, "");
  EXPECT_EQ(chat->request.logprobs, 3);
  EXPECT_EQ(ChatWith(R"("logprobs": true)")->request.logprobs, 0);
  EXPECT_EQ(ChatWith(R"("logprobs": false)")->request.logprobs, std::nullopt);
}

TEST(OpenAiRequest, A23_BadMessagesAreNamed) {
  const auto refusal = [](const std::string& messages) {
    return MessageOf(Chat(absl::StrCat("{\"messages\": ", messages, "}")).status(),
                     absl::StatusCode::kInvalidArgument);
  };
  EXPECT_EQ(refusal("null"), "messages: must be a list; got null");
  EXPECT_EQ(refusal("\"hi\""), "messages: must be a list; got \"hi\"");
  EXPECT_THAT(refusal("[5]"), StartsWith("messages[0]: must be an object"));
  EXPECT_THAT(refusal(R"([{"role": 5, "content": "a"}])"),
              StartsWith("messages[0].role: must be a string"));
  EXPECT_EQ(refusal(R"([{"role": "user", "content": null}])"),
            "messages[0].content: must be a string or a list of text parts; got null");
  EXPECT_THAT(refusal(R"([{"role": "user"}])"), StartsWith("messages[0].content: must be"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": {}}])"),
              StartsWith("messages[0].content: must be"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": ["a"]}])"),
              StartsWith("messages[0].content[0]: must be an object"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": [{"text": "a"}]}])"),
              StartsWith("messages[0].content[0].type: must be text"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": [{"type": "text", "text": 5}]}])"),
              StartsWith("messages[0].content[0].text: must be a string"));
  std::string many = "[{}";
  for (int i = 0; i < 100'000; ++i) many += ",{}";
  EXPECT_EQ(refusal(many + "]"), "messages: must have at most 1024 entries; got 100001");
  EXPECT_THAT(
      MessageOf(ChatWith(R"("top_logprobs": 2)").status(), absl::StatusCode::kInvalidArgument),
      StartsWith("top_logprobs: must be absent unless"));
}

TEST(OpenAiRequest, A27_OtherMediaAreNamedAndNotFetched) {
  for (const char* part :
       {R"({"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}})",
        R"({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})",
        R"({"type": "file", "file": {"file_id": "file:///etc/passwd"}})"}) {
    const std::string message =
        MessageOf(Chat(absl::StrCat(R"({"messages": [{"role": "user", "content": [{"type": "text",)"
                                    R"( "text": "a"}, )",
                                    part, "]}]}"))
                      .status(),
                  absl::StatusCode::kUnimplemented);
    EXPECT_THAT(message, StartsWith("messages[0].content[1].type: must be text"));
  }
  EXPECT_THAT(MessageOf(Chat(R"({"messages": [{"role": "assistant", "content": null,
                                 "tool_calls": [{"id": "1"}]}]})")
                            .status(),
                        absl::StatusCode::kUnimplemented),
              StartsWith("messages[0].tool_calls: must be absent"));
}

// --- Errors ---

TEST(OpenAiError, SaysWhatOpenAiWould) {
  const auto error = [](int http_status, const absl::Status& status) {
    return json::parse(OpenAiErrorText(http_status, status))["error"];
  };
  EXPECT_EQ(error(400, FieldError("top_p", "be in (0, 1]", 5)),
            json({{"message", "top_p: must be in (0, 1]; got 5"},
                  {"type", "invalid_request_error"},
                  {"param", "top_p"},
                  {"code", nullptr}}));
  EXPECT_EQ(error(400, FieldError("chat.messages[0].role", "be one", "x"))["param"],
            "messages[0].role");
  EXPECT_EQ(error(400, FieldError("text", "be short", "x"))["message"],
            "prompt: must be short; got \"x\"");
  EXPECT_EQ(
      error(400, absl::InvalidArgumentError("prompt_tokens: (context_length_exceeded"))["code"],
      "context_length_exceeded");
  EXPECT_EQ(error(401, absl::UnauthenticatedError("authorization: no"))["code"], "invalid_api_key");
  EXPECT_EQ(error(404, absl::NotFoundError("model: must"))["code"], "model_not_found");
  EXPECT_EQ(error(429, absl::ResourceExhaustedError("queue: full"))["type"], "rate_limit_error");
  EXPECT_EQ(error(429, absl::ResourceExhaustedError("queue: full"))["param"], nullptr);
  EXPECT_EQ(error(503, absl::UnavailableError("server: draining"))["type"], "server_error");
}

TEST(OpenAiError, ClientsAreToldNotToRepeatWhatIsNotServed) {
  const HttpResponse response = HttpRefusal(absl::UnimplementedError("tools: must"), OpenAiError);
  EXPECT_EQ(response.status, 501);
  EXPECT_THAT(response.headers, ElementsAre(Pair("x-should-retry", "false")));
  EXPECT_THAT(HttpRefusal(absl::ResourceExhaustedError("queue"), OpenAiError).headers,
              ElementsAre(Pair("retry-after", ::testing::AnyOf("1", "2"))));
}

}  // namespace
}  // namespace pregate
