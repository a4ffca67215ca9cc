// The HTTP front door over loopback, on a small random model.
#include "server/http_door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/server/byte_tokenizer.h"
#include "tests/server/fake_engine.h"
#include "tests/server/http_client.h"
#include "tests/server/random_server.h"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A model slow enough for a test to come between its steps, with room for long answers.
RandomModelSpec SlowModel() {
  RandomModelSpec spec;
  spec.hidden_size = 256;
  spec.ffn_size = 512;
  spec.num_layers = 4;
  spec.context_length = 8192;
  return spec;
}

json Greedy(int max_tokens) {
  return {
      {"prompt", "Hello"}, {"max_tokens", max_tokens}, {"temperature", 0}, {"ignore_eos", true}};
}

json Streamed(json body) {
  body["stream"] = true;
  return body;
}

class HttpDoorTest : public ::testing::Test {
 protected:
  void StartDoor(const EngineOptions& options = {}, HttpDoorOptions door_options = {}) {
    parts_ = std::make_unique<RandomServer>(options, SlowModel());
    auto door = HttpDoor::Start(door_options, &parts_->model, &log_);
    ASSERT_TRUE(door.ok()) << door.status();
    door_ = *std::move(door);
  }

  // Whatever a test did: nothing is left, and the next request is served as ever.
  void TearDown() override {
    if (door_ == nullptr) return;
    EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Seconds(30)));
    const EngineStats stats = parts_->engine->stats();
    EXPECT_EQ(stats.running, 0);
    EXPECT_EQ(stats.waiting, 0);
    EXPECT_EQ(stats.kv_cache_usage, 0.0);
    door_->Shutdown(absl::Seconds(5));
  }

  HttpReply Get(const std::string& path) { return HttpClient(door_->port()).Ask(GetText(path)); }
  HttpReply Post(const std::string& path, const json& body, const std::string& headers = "") {
    return HttpClient(door_->port()).Ask(PostText(path, body.dump(), headers));
  }
  json Complete(const json& body) {
    const HttpReply reply = Post("/v1/completions", body);
    EXPECT_EQ(reply.status, 200) << reply.body;
    return json::parse(reply.body, nullptr, /*allow_exceptions=*/false);
  }
  std::string Text(const json& body) { return Complete(body)["choices"][0]["text"]; }

  // A stream whose first event has come.
  std::unique_ptr<HttpClient> StartStream(int max_tokens) {
    auto client = std::make_unique<HttpClient>(door_->port());
    client->Send(PostText("/v1/completions", Streamed(Greedy(max_tokens)).dump()));
    while (client->unread().find("data: ") == std::string::npos) {
      if (!client->ReadSome()) break;
    }
    return client;
  }

  static std::vector<json> Events(const std::string& body) {
    std::vector<json> events;
    for (const absl::string_view event : absl::StrSplit(body, "\n\n", absl::SkipEmpty())) {
      EXPECT_THAT(std::string(event), StartsWith("data: "));
      if (event != "data: [DONE]") events.push_back(json::parse(event.substr(6)));
    }
    return events;
  }

  RequestLog log_{LogFormat::kText};
  std::unique_ptr<RandomServer> parts_;
  std::unique_ptr<HttpDoor> door_;
};

TEST_F(HttpDoorTest, StreamedPiecesAreTheWholeAnswer) {
  StartDoor();
  const json whole = Complete(Greedy(60));
  const HttpReply streamed = Post("/v1/completions", Streamed(Greedy(60)));
  EXPECT_EQ(streamed.Header("content-type"), "text/event-stream");
  EXPECT_THAT(streamed.body, ::testing::EndsWith("data: [DONE]\n\n"));
  std::string text;
  const std::vector<json> events = Events(streamed.body);
  for (const json& event : events) text += event["choices"][0]["text"];
  EXPECT_EQ(text, whole["choices"][0]["text"]);
  EXPECT_GT(events.size(), 1u);
  EXPECT_EQ(events.back()["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(whole["usage"]["prompt_tokens"], 5);
  EXPECT_EQ(whole["usage"]["completion_tokens"], 60);
}

TEST_F(HttpDoorTest, ModelsTokensAndVersion) {
  StartDoor();
  EXPECT_EQ(json::parse(Get("/v1/models").body)["data"][0]["id"], "random");
  EXPECT_EQ(json::parse(Get("/v1/models/random").body)["object"], "model");
  const HttpReply missing = Get("/v1/models/org/other");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(json::parse(missing.body)["error"]["code"], "model_not_found");
  const json tokens =
      json::parse(Post("/tokenize", {{"prompt", "Hi"}, {"return_token_strs", true}}).body);
  EXPECT_EQ(tokens["tokens"], json({'H', 'i'}));
  EXPECT_EQ(tokens["token_strs"], json({"H", "i"}));
  EXPECT_EQ(tokens["count"], 2);
  EXPECT_EQ(tokens["max_model_len"], 8192);
  EXPECT_EQ(json::parse(Post("/detokenize", {{"tokens", {'H', 'i'}}}).body)["prompt"], "Hi");
  EXPECT_EQ(Post("/detokenize", {{"tokens", {99999}}}).status, 400);
  EXPECT_EQ(Post("/tokenize", json::object()).status, 400);
  EXPECT_TRUE(json::parse(Get("/version").body).contains("version"));
}

TEST_F(HttpDoorTest, SeveralPromptsAndAnswers) {
  StartDoor();
  json body = Greedy(8);
  body["prompt"] = {"Hello", json::array({72, 101, 108, 108, 111}), "World"};
  body["n"] = 2;
  const json answer = Complete(body);
  ASSERT_EQ(answer["choices"].size(), 6u);
  EXPECT_EQ(answer["choices"][0]["text"], Text(Greedy(8)));
  EXPECT_EQ(answer["choices"][2]["text"], answer["choices"][0]["text"]);
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 15);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 48);
}

TEST_F(HttpDoorTest, OneBadPromptRefusesAll) {
  StartDoor();
  json body = Greedy(8000);
  body["prompt"] = {"Hello", "World", ""};
  const HttpReply reply = Post("/v1/completions", body);
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(json::parse(reply.body)["error"]["message"], "prompt: must not be empty; got \"\"");
  EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Seconds(5)));
}

TEST_F(HttpDoorTest, EchoScoresThePrompt) {
  StartDoor();
  json body = Greedy(0);
  body["echo"] = true;
  body["logprobs"] = 2;
  const json none = Complete(body);
  EXPECT_EQ(none["choices"][0]["text"], "Hello");
  EXPECT_EQ(none["choices"][0]["logprobs"]["tokens"].size(), 5u);
  EXPECT_EQ(none["usage"]["completion_tokens"], 0);
  body["max_tokens"] = 1;
  const json one = Complete(body);
  const json& logprobs = one["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"].size(), 6u);
  EXPECT_EQ(logprobs["token_logprobs"][0], nullptr);
  EXPECT_LT(logprobs["token_logprobs"][1], 0);
  EXPECT_GE(logprobs["top_logprobs"][1].size(), 2u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(logprobs["token_logprobs"][i], none["choices"][0]["logprobs"]["token_logprobs"][i]);
  }
}

TEST_F(HttpDoorTest, RefusalsNameTheField) {
  StartDoor();
  json body = Greedy(5);
  body["top_p"] = 0;
  HttpReply reply = Post("/v1/completions", body);
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(json::parse(reply.body)["error"]["param"], "top_p");
  EXPECT_EQ(json::parse(reply.body)["error"]["message"], "top_p: must be in (0, 1]; got 0");
  body["top_p"] = 1;
  body["n"] = 2147483647;
  EXPECT_EQ(Post("/v1/completions", body).status, 400);
  body["n"] = 1;
  EXPECT_EQ(Post("/v1/completions", body, "X-Request-Timeout: soon\r\n").status, 400);
  body["model"] = "other";
  EXPECT_EQ(Post("/v1/completions", body).status, 404);
  EXPECT_EQ(Post("/v1/completions", body, std::string("Content-Encoding: gzip\r\n")).status, 415);
  EXPECT_EQ(Get("/v1/completions").status, 405);
  EXPECT_EQ(json::parse(Get("/v1/nothing").body)["error"]["type"], "invalid_request_error");
}

TEST_F(HttpDoorTest, D1_AFullQueueSaysWhenToComeBack) {
  EngineOptions options;
  options.max_num_seqs = 1;
  options.max_num_queued_reqs = 1;
  StartDoor(options);
  const auto running = StartStream(8000);
  HttpClient queued(door_->port());
  queued.Send(PostText("/v1/completions", Greedy(8000).dump()));
  while (parts_->engine->stats().waiting == 0) absl::SleepFor(absl::Milliseconds(1));
  const HttpReply reply = Post("/v1/completions", Greedy(5));
  EXPECT_EQ(reply.status, 429);
  EXPECT_THAT(reply.Header("retry-after"), ::testing::AnyOf("1", "2"));
  EXPECT_EQ(json::parse(reply.body)["error"]["code"], "rate_limit_exceeded");
}

TEST_F(HttpDoorTest, B8_AClientThatLeavesFreesItsPlaceAtOnce) {
  EngineOptions options;
  options.max_num_seqs = 1;
  StartDoor(options);
  for (int round = 0; round < 6; ++round) {
    auto client = std::make_unique<HttpClient>(door_->port());
    const json body = round < 3 ? Streamed(Greedy(8000)) : Greedy(8000);
    client->Send(PostText("/v1/completions", body.dump()));
    while (parts_->engine->stats().running == 0) absl::SleepFor(absl::Milliseconds(1));
    if (round % 2 == 0) {
      client->Reset();
    } else {
      client->Close();
    }
    EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Milliseconds(200))) << round;
  }
  EXPECT_EQ(Complete(Greedy(5))["usage"]["completion_tokens"], 5);
}

TEST_F(HttpDoorTest, B7_AReaderThatStallsIsGivenUp) {
  HttpDoorOptions options;
  options.server.stall_timeout = absl::Seconds(1);
  StartDoor({}, options);
  HttpClient stalled(door_->port(), /*receive_buffer=*/4096);
  json body = Streamed(Greedy(8000));
  body["logprobs"] = 20;
  stalled.Send(PostText("/v1/completions", body.dump()));
  // Others are served meanwhile.
  EXPECT_EQ(Complete(Greedy(50))["usage"]["completion_tokens"], 50);
  EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Seconds(60)));
  EXPECT_TRUE(stalled.AwaitEnd());
  EXPECT_THAT(stalled.unread(), Not(HasSubstr("[DONE]")));
}

TEST_F(HttpDoorTest, C3_ADeadlineInTheMiddleIsAnErrorEvent) {
  StartDoor();
  const HttpReply plain = Post("/v1/completions", Greedy(8000), "X-Request-Timeout: 0.5\r\n");
  EXPECT_EQ(plain.status, 504);
  EXPECT_THAT(plain.body, HasSubstr("deadline: expired after"));
  HttpClient client(door_->port());
  client.Send(
      PostText("/v1/completions", Streamed(Greedy(8000)).dump(), "X-Request-Timeout: 0.5\r\n"));
  EXPECT_TRUE(client.AwaitEnd());
  EXPECT_THAT(client.unread(), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(client.unread(), HasSubstr("{\"error\":{\"message\":\"deadline: expired after"));
  EXPECT_THAT(client.unread(), Not(HasSubstr("[DONE]")));
}

TEST_F(HttpDoorTest, TheHealthPortKnowsProbesAlone) {
  HttpDoorOptions options;
  options.health_port = 0;
  options.server.max_connections = 1;
  StartDoor({}, options);
  EXPECT_NE(door_->health_port(), door_->port());
  const auto stream = StartStream(200);  // no room for a second connection
  EXPECT_EQ(Get("/livez").status, 503);
  HttpClient probe(door_->health_port());
  for (const char* path : {"/livez", "/readyz"}) {
    EXPECT_EQ(probe.Ask(GetText(path)).status, 200);
  }
  for (const char* path : {"/", "/health", "/version", "/metrics", "/v1/models"}) {
    EXPECT_EQ(probe.Ask(GetText(path)).status, 404) << path;
  }
  door_->StopServing();
  EXPECT_EQ(probe.Ask(GetText("/readyz")).body, "draining\n");
  EXPECT_EQ(probe.Ask(GetText("/livez")).status, 200);
}

TEST_F(HttpDoorTest, NoHealthPortUnlessAskedFor) {
  StartDoor();
  EXPECT_EQ(door_->health_port(), 0);
}

TEST_F(HttpDoorTest, AHealthPortThatIsTaken) {
  StartDoor();
  HttpDoorOptions options;
  options.health_port = door_->port();
  const auto second = HttpDoor::Start(options, &parts_->model, &log_);
  EXPECT_THAT(std::string(second.status().message()), StartsWith("health-port: must be free"));
}

TEST_F(HttpDoorTest, D4_StreamsThatAreCutSayWhy) {
  StartDoor();
  const auto client = StartStream(8000);
  EXPECT_EQ(Get("/readyz").status, 200);
  door_->StopServing();
  EXPECT_EQ(Get("/readyz").status, 503);
  EXPECT_EQ(Get("/health").status, 503);
  const HttpReply live = Get("/livez");
  EXPECT_EQ(live.status, 200);
  EXPECT_EQ(live.Header("connection"), "close");
  parts_->engine->StartDrain();
  const HttpReply refused = Post("/v1/completions", Greedy(5));
  EXPECT_EQ(refused.status, 503);
  EXPECT_NE(refused.Header("retry-after"), "");
  EXPECT_THAT(refused.body, HasSubstr("draining"));
  door_->AbortStreams(absl::UnavailableError("server: drain timeout"));
  EXPECT_TRUE(client->AwaitEnd());
  EXPECT_THAT(client->unread(), HasSubstr("data: {\"error\":{\"message\":\"server: drain timeout"));
  EXPECT_THAT(client->unread(), Not(HasSubstr("[DONE]")));
}

// An engine that a test can make stand still.
class StuckEngine : public FakeEngine {
 public:
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  EngineStats stats() const override {
    EngineStats stats;
    stats.running = running;
    stats.steps = steps;
    return stats;
  }
  std::atomic<int> running = 0;
  std::atomic<int64_t> steps = 7;

 private:
  std::unique_ptr<Tokenizer> tokenizer_ = MakeByteTokenizer();
};

TEST(HttpDoor, V17_LivenessKnowsAnEngineThatIsStuck) {
  StuckEngine engine;
  RequestLog log(LogFormat::kText);
  Metrics metrics(&engine, "stuck", MetricsCompat::kNone);
  const ServedModel model(&engine, &metrics, {.name = "stuck"});
  HttpDoorOptions options;
  options.step_timeout = absl::Milliseconds(1500);
  const auto door = HttpDoor::Start(options, &model, &log);
  ASSERT_TRUE(door.ok()) << door.status();
  HttpClient client((*door)->port());
  const auto live = [&client](int want) {
    for (int i = 0; i < 600; ++i, absl::SleepFor(absl::Milliseconds(10))) {
      if (client.Ask(GetText("/livez")).status == want) return true;
    }
    return false;
  };
  EXPECT_TRUE(live(200));
  engine.running = 1;
  EXPECT_TRUE(live(503));
  EXPECT_EQ(client.Ask(GetText("/readyz")).status, 503);
  engine.steps = 8;
  EXPECT_TRUE(live(200));
  EXPECT_EQ(client.Ask(GetText("/readyz")).status, 200);
  (*door)->Shutdown(absl::Seconds(1));
}

}  // namespace
}  // namespace pregate
