// The gRPC front door over loopback, on a small random model.
#include "server/grpc/grpc_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "pregate/v1/inference.grpc.pb.h"
#include "tests/server/byte_tokenizer.h"
#include "tests/server/fake_engine.h"
#include "tests/server/random_server.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
namespace health = grpc::health::v1;

// A model slow enough for a test to come between its steps, with room for long answers.
RandomModelSpec SlowModel() {
  RandomModelSpec spec;
  spec.hidden_size = 256;
  spec.ffn_size = 512;
  spec.num_layers = 4;
  spec.context_length = 8192;
  return spec;
}

struct Reply {
  grpc::Status status;
  std::string text;
  std::vector<uint32_t> ids;
  int messages = 0;
  v1::GenerateResponse last;
  std::multimap<std::string, std::string> trailers;
};

class GrpcServerTest : public ::testing::Test {
 protected:
  void StartServer(const EngineOptions& options = {}, const RandomModelSpec& spec = SlowModel(),
                   absl::Duration stall_timeout = absl::Seconds(30)) {
    parts_ = std::make_unique<RandomServer>(options, spec);
    GrpcServerOptions grpc_options;
    grpc_options.stall_timeout = stall_timeout;
    auto server = GrpcServer::Start(grpc_options, &parts_->model, &log_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::Inference::NewStub(channel_);
  }

  // Whatever a test did: nothing is left, and the next request is served as ever.
  void TearDown() override {
    if (server_ == nullptr) return;
    EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Seconds(30)));
    const EngineStats stats = parts_->engine->stats();
    EXPECT_EQ(stats.running, 0);
    EXPECT_EQ(stats.waiting, 0);
    EXPECT_EQ(stats.kv_cache_usage, 0.0);
    server_->Shutdown(absl::Seconds(5));
  }

  static v1::GenerateRequest Greedy(const std::string& text, int64_t max_tokens) {
    v1::GenerateRequest request;
    request.set_text(text);
    request.mutable_sampling()->set_max_tokens(max_tokens);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_sampling()->set_ignore_eos(true);
    return request;
  }

  // A reply to a call that its deadline ends. The server is a little ahead of the client's library,
  // which knows the deadline too; on a machine that is busy it may not be, so it gets some tries.
  Reply AskPastDeadline(const v1::GenerateRequest& request) {
    Reply reply;
    for (int tries = 0;
         tries < 8 && reply.status.error_message().find("expired") == std::string::npos; ++tries) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
      reply = Ask(request, &context);
      EXPECT_EQ(reply.status.error_code(), grpc::DEADLINE_EXCEEDED);
    }
    return reply;
  }

  static void Read(grpc::ClientReader<v1::GenerateResponse>* reader, Reply* reply) {
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      ++reply->messages;
      reply->text += response.text();
      reply->ids.insert(reply->ids.end(), response.token_ids().begin(), response.token_ids().end());
      reply->last = response;
    }
    reply->status = reader->Finish();
  }

  Reply Ask(const v1::GenerateRequest& request, grpc::ClientContext* context) {
    Reply reply;
    Read(stub_->Generate(context, request).get(), &reply);
    for (const auto& [key, value] : context->GetServerTrailingMetadata()) {
      reply.trailers.emplace(std::string(key.data(), key.size()),
                             std::string(value.data(), value.size()));
    }
    return reply;
  }
  Reply Ask(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    return Ask(request, &context);
  }

  health::HealthCheckResponse::ServingStatus Health(const std::string& service) {
    grpc::ClientContext context;
    health::HealthCheckRequest request;
    request.set_service(service);
    health::HealthCheckResponse response;
    const grpc::Status status =
        health::Health::NewStub(channel_)->Check(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.status();
  }

  RequestLog log_{LogFormat::kText};
  std::unique_ptr<RandomServer> parts_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

TEST_F(GrpcServerTest, StreamedPiecesAreTheWholeAnswer) {
  StartServer();
  v1::GenerateRequest request = Greedy("Hello", 60);
  const Reply pieces = Ask(request);
  request.set_stream(false);
  const Reply whole = Ask(request);
  ASSERT_TRUE(pieces.status.ok()) << pieces.status.error_message();
  EXPECT_GT(pieces.messages, 1);
  EXPECT_EQ(whole.messages, 1);
  EXPECT_EQ(pieces.text, whole.text);
  EXPECT_EQ(pieces.ids, whole.ids);
  EXPECT_EQ(whole.ids.size(), 60u);
  EXPECT_EQ(whole.last.finish_reason(), v1::GenerateResponse::LENGTH);
  EXPECT_EQ(whole.last.usage().prompt(), 5u);
  EXPECT_EQ(whole.last.usage().completion(), 60u);
  EXPECT_GT(whole.last.timing().time_to_first_token(), 0.0);
  EXPECT_GE(whole.last.timing().decode(), 0.0);
}

TEST_F(GrpcServerTest, LogprobsCarryTheTokensText) {
  StartServer();
  v1::GenerateRequest request = Greedy("Hello", 5);
  request.set_stream(false);
  request.mutable_sampling()->set_logprobs(3);
  request.mutable_sampling()->set_prompt_logprobs(0);
  const Reply reply = Ask(request);
  ASSERT_EQ(reply.last.logprobs_size(), 5);
  ASSERT_EQ(reply.last.logprobs(0).top_size(), 3);
  EXPECT_EQ(reply.last.logprobs(0).chosen().token_id(), reply.ids[0]);
  EXPECT_EQ(reply.last.logprobs(0).chosen().token(),
            parts_->engine->tokenizer().TokenBytes(reply.ids[0], true));
  ASSERT_EQ(reply.last.prompt_logprobs_size(), 4);
  EXPECT_EQ(reply.last.prompt_logprobs(0).chosen().token(), "e");
}

TEST_F(GrpcServerTest, APromptAloneIsScored) {
  StartServer();
  v1::GenerateRequest request = Greedy("Hello", 0);
  request.mutable_sampling()->set_prompt_logprobs(1);
  request.mutable_sampling()->add_logprob_token_ids('l');
  const Reply reply = Ask(request);
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  EXPECT_EQ(reply.ids.size(), 0u);
  EXPECT_EQ(reply.text, "");
  EXPECT_EQ(reply.last.finish_reason(), v1::GenerateResponse::LENGTH);
  EXPECT_EQ(reply.last.usage().prompt(), 5u);
  EXPECT_EQ(reply.last.usage().completion(), 0u);
  ASSERT_EQ(reply.last.prompt_logprobs_size(), 4);
  for (const v1::PositionLogprobs& position : reply.last.prompt_logprobs()) {
    ASSERT_EQ(position.wanted_size(), 1);
    EXPECT_EQ(position.wanted(0).token_id(), uint32_t{'l'});
    EXPECT_EQ(position.top_size(), 1);
  }
  const v1::PositionLogprobs& third = reply.last.prompt_logprobs(1);  // "Hel", and an "l"
  EXPECT_EQ(third.wanted(0).logprob(), third.chosen().logprob());
}

TEST_F(GrpcServerTest, InvalidArgumentsNameTheFieldInTheDetails) {
  StartServer();
  v1::GenerateRequest request = Greedy("Hello", 5);
  request.mutable_sampling()->set_top_p(0);
  const Reply reply = Ask(request);
  EXPECT_EQ(reply.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(reply.status.error_message(), "top_p: must be in (0, 1]; got 0");
  EXPECT_EQ(reply.messages, 0);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(reply.status.error_details()));
  google::rpc::BadRequest bad_request;
  ASSERT_EQ(details.details_size(), 1);
  ASSERT_TRUE(details.details(0).UnpackTo(&bad_request));
  EXPECT_EQ(bad_request.field_violations(0).field(), "top_p");
  EXPECT_EQ(bad_request.field_violations(0).description(), "must be in (0, 1]; got 0");
}

TEST_F(GrpcServerTest, WhatIsNotServedIsSaid) {
  StartServer();
  v1::GenerateRequest request = Greedy("Hello", 5);
  auto refusal = [&] {
    const Reply reply = Ask(request);
    EXPECT_EQ(reply.status.error_code(), grpc::UNIMPLEMENTED);
    return reply.status.error_message();
  };
  request.mutable_sampling()->set_json_schema("{}");
  EXPECT_THAT(refusal(), StartsWith("json_schema: must be absent"));
  request.mutable_sampling()->set_regex("a*");
  EXPECT_THAT(refusal(), StartsWith("regex: must be absent"));
  request.mutable_sampling()->mutable_choice();
  EXPECT_THAT(refusal(), StartsWith("choice: must be absent"));
  request.mutable_sampling()->set_grammar("root ::= \"a\"");
  EXPECT_THAT(refusal(), StartsWith("grammar: must be absent"));
}

TEST_F(GrpcServerTest, D1_AFullQueueSaysWhenToComeBack) {
  EngineOptions options;
  options.max_num_seqs = 1;
  options.max_num_queued_reqs = 1;
  StartServer(options);
  grpc::ClientContext running, queued;
  const auto first = stub_->Generate(&running, Greedy("Hello", 8000));
  v1::GenerateResponse response;
  ASSERT_TRUE(first->Read(&response));  // it has left the queue
  const auto second = stub_->Generate(&queued, Greedy("Hello", 8000));
  while (parts_->engine->stats().waiting == 0) absl::SleepFor(absl::Milliseconds(1));

  const Reply reply = Ask(Greedy("Hello", 5));
  EXPECT_EQ(reply.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  google::rpc::Status details;
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.ParseFromString(reply.status.error_details()));
  ASSERT_EQ(details.details_size(), 1);
  ASSERT_TRUE(details.details(0).UnpackTo(&retry));
  const int64_t ms = retry.retry_delay().seconds() * 1000 + retry.retry_delay().nanos() / 1000000;
  EXPECT_GE(ms, 500);
  EXPECT_LE(ms, 1600);
  ASSERT_EQ(reply.trailers.count("grpc-retry-pushback-ms"), 1u);
  EXPECT_EQ(reply.trailers.find("grpc-retry-pushback-ms")->second, std::to_string(ms));
  running.TryCancel();
  queued.TryCancel();
}

TEST_F(GrpcServerTest, C4_CancellingFreesTheSlot) {
  EngineOptions options;
  options.max_num_seqs = 1;
  StartServer(options);
  for (int round = 0; round < 20; ++round) {
    grpc::ClientContext context;
    const auto reader = stub_->Generate(&context, Greedy("Hello", 8000));
    v1::GenerateResponse response;
    for (int i = 0; i < round % 5; ++i) ASSERT_TRUE(reader->Read(&response));
    context.TryCancel();
    while (reader->Read(&response)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  }
  EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Seconds(5)));
  EXPECT_EQ(Ask(Greedy("Hello", 5)).ids.size(), 5u);
}

TEST_F(GrpcServerTest, C3_ADeadlineKeepsTheTokensAndSaysHowMany) {
  StartServer();
  const Reply reply = AskPastDeadline(Greedy("Hello", 8000));
  ASSERT_GT(reply.ids.size(), 0u);
  ASSERT_LT(reply.ids.size(), 8000u);
  EXPECT_EQ(reply.ids, Ask(Greedy("Hello", static_cast<int64_t>(reply.ids.size()))).ids);
  // The server's own word, not the client library's.
  EXPECT_THAT(
      reply.status.error_message(),
      StartsWith("deadline: expired after " + std::to_string(reply.ids.size()) + " tokens"));
  EXPECT_EQ(reply.last.finish_reason(), v1::GenerateResponse::DEADLINE);
}

TEST_F(GrpcServerTest, C1_ADeadlineInTheQueueSaysSo) {
  EngineOptions options;
  options.max_num_seqs = 1;
  StartServer(options);
  grpc::ClientContext running;
  const auto first = stub_->Generate(&running, Greedy("Hello", 8000));
  v1::GenerateResponse response;
  ASSERT_TRUE(first->Read(&response));
  const Reply reply = AskPastDeadline(Greedy("Hello", 5));
  EXPECT_THAT(reply.status.error_message(), StartsWith("deadline: expired in queue after "));
  EXPECT_EQ(reply.ids.size(), 0u);
  running.TryCancel();
}

TEST_F(GrpcServerTest, B7_AReaderThatStallsIsGivenUp) {
  StartServer({}, SlowModel(), absl::Seconds(1));
  // A client that takes 64 KiB into its buffers: by itself the library would raise that to more
  // than a whole answer, once it sees how fast the loopback is.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  const auto stub = v1::Inference::NewStub(
      grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext stalled;
  v1::GenerateRequest request = Greedy("Hello", 8000);
  request.mutable_sampling()->set_logprobs(20);
  const auto reader = stub->Generate(&stalled, request);
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  // Others are served meanwhile.
  EXPECT_EQ(Ask(Greedy("World", 50)).ids.size(), 50u);
  EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Seconds(60)));
  Reply reply;
  Read(reader.get(), &reply);
  EXPECT_EQ(reply.status.error_code(), grpc::CANCELLED);
  EXPECT_LT(reply.ids.size(), 7999u);
}

TEST_F(GrpcServerTest, AReaderThatIsSlowGetsEverything) {
  StartServer({}, SlowModel(), absl::Seconds(1));
  const std::vector<uint32_t> whole = Ask(Greedy("Hello", 1000)).ids;
  grpc::ClientContext context;
  v1::GenerateRequest request = Greedy("Hello", 1000);
  request.mutable_sampling()->set_logprobs(20);
  const auto reader = stub_->Generate(&context, request);
  std::vector<uint32_t> ids;
  v1::GenerateResponse response;
  int messages = 0;
  while (reader->Read(&response)) {
    ids.insert(ids.end(), response.token_ids().begin(), response.token_ids().end());
    if (++messages % 50 == 0) absl::SleepFor(absl::Milliseconds(200));
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(ids, whole);
  EXPECT_LT(messages, 1000);  // what piled up came together
}

TEST_F(GrpcServerTest, D4_StreamsThatAreCutGetWhatThereIs) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Greedy("Hello", 8000));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  server_->StopServing();
  parts_->engine->StartDrain();
  const Reply refused = Ask(Greedy("Hello", 5));
  EXPECT_EQ(refused.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("draining"));
  EXPECT_FALSE(parts_->engine->WaitUntilIdle(absl::Milliseconds(50)));
  server_->AbortStreams(absl::UnavailableError("server: drain timeout"));
  Reply reply;
  Read(reader.get(), &reply);
  EXPECT_EQ(reply.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(reply.status.error_message(), "server: drain timeout");
  EXPECT_EQ(reply.last.finish_reason(), v1::GenerateResponse::ERROR);
  EXPECT_EQ(reply.last.usage().completion(), reply.ids.size() + response.token_ids_size());
}

TEST_F(GrpcServerTest, HealthFollows) {
  StartServer();
  EXPECT_EQ(Health(""), health::HealthCheckResponse::SERVING);
  EXPECT_EQ(Health("pregate.v1.Inference"), health::HealthCheckResponse::SERVING);
  server_->StopServing();
  EXPECT_EQ(Health(""), health::HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Health("pregate.v1.Inference"), health::HealthCheckResponse::NOT_SERVING);
  absl::SleepFor(absl::Milliseconds(1500));  // the watch over the engine does not turn it on again
  EXPECT_EQ(Health(""), health::HealthCheckResponse::NOT_SERVING);
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

TEST_F(GrpcServerTest, V17_HealthKnowsAnEngineThatIsStuck) {
  StuckEngine engine;
  Metrics metrics(&engine, "stuck", MetricsCompat::kNone);
  const ServedModel model(&engine, &metrics, {.name = "stuck"});
  GrpcServerOptions options;
  options.step_timeout = absl::Milliseconds(1500);
  const auto server = GrpcServer::Start(options, &model, &log_);
  ASSERT_TRUE(server.ok());
  channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string((*server)->port()),
                                 grpc::InsecureChannelCredentials());
  auto becomes = [&](health::HealthCheckResponse::ServingStatus status) {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (Health("") != status && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(20));
    return Health("") == status;
  };
  absl::SleepFor(absl::Seconds(3));
  EXPECT_EQ(Health(""), health::HealthCheckResponse::SERVING);  // at rest, however long
  engine.running = 1;
  EXPECT_EQ(Health(""), health::HealthCheckResponse::SERVING);  // it has just begun
  EXPECT_TRUE(becomes(health::HealthCheckResponse::NOT_SERVING));
  ++engine.steps;
  EXPECT_TRUE(becomes(health::HealthCheckResponse::SERVING));
  (*server)->Shutdown(absl::Seconds(1));
}

TEST_F(GrpcServerTest, TextsAndIds) {
  StartServer();
  grpc::ClientContext encode, decode, list;
  v1::TokenizeRequest text;
  text.set_text("Hi \xE2\x82\xAC<|end|>");
  v1::TokenizeResponse ids;
  ASSERT_TRUE(stub_->Tokenize(&encode, text, &ids).ok());
  EXPECT_EQ(ids.ids_size(), 13);
  v1::DetokenizeRequest back;
  *back.mutable_ids() = ids.ids();
  v1::DetokenizeResponse same;
  ASSERT_TRUE(stub_->Detokenize(&decode, back, &same).ok());
  EXPECT_EQ(same.text(), text.text());
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub_->ListModels(&list, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).name(), "random");
  EXPECT_EQ(models.models(0).limits().vocab_size(), 320u);
  EXPECT_EQ(models.models(0).limits().max_prompt_tokens(), 8190u);
  const auto& capabilities = models.models(0).capabilities();
  EXPECT_EQ(std::vector<std::string>(capabilities.begin(), capabilities.end()),
            (std::vector<std::string>{"generate", "tokenize", "embed", "score"}));  // no template

  grpc::ClientContext bad;
  back.add_ids(320);
  const grpc::Status status = stub_->Detokenize(&bad, back, &same);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "ids[13]: must be in [0, 320); got 320");
}

TEST_F(GrpcServerTest, ATakenPortIsAnError) {
  StartServer();
  GrpcServerOptions options;
  options.port = server_->port();
  const auto second = GrpcServer::Start(options, &parts_->model, &log_);
  EXPECT_TRUE(absl::IsUnavailable(second.status()));
  EXPECT_THAT(std::string(second.status().message()), StartsWith("gRPC: cannot listen on 127."));
}

}  // namespace
}  // namespace pregate
