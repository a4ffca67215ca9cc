// Embed and Score over loopback, in front of an engine whose values are a formula.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "pregate/v1/inference.grpc.pb.h"
#include "server/grpc/grpc_server.h"
#include "tests/server/fake_encoder.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

class EncodingGrpcTest : public ::testing::Test {
 protected:
  void Serve(bool scores, absl::Duration stall_timeout = absl::Seconds(30)) {
    engine_ = std::make_unique<FakeEncoder>(scores);
    metrics_ = std::make_unique<Metrics>(engine_.get(), "fake", MetricsCompat::kNone);
    model_ = std::make_unique<ServedModel>(
        engine_.get(), metrics_.get(),
        ServedModelOptions{.name = "fake",
                           .prompts = {.query = "q:", .passage = "p:", .plain = ""}});
    GrpcServerOptions options;
    options.stall_timeout = stall_timeout;
    auto server = GrpcServer::Start(options, model_.get(), &log_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::Inference::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(server_->port()), grpc::InsecureChannelCredentials()));
  }

  grpc::Status Embed(const v1::EmbedRequest& request, v1::EmbedResponse* response) {
    grpc::ClientContext context;
    return stub_->Embed(&context, request, response);
  }
  grpc::Status Score(const v1::ScoreRequest& request, v1::ScoreResponse* response) {
    grpc::ClientContext context;
    return stub_->Score(&context, request, response);
  }
  std::string Refusal(const v1::EmbedRequest& request) {
    v1::EmbedResponse response;
    const grpc::Status status = Embed(request, &response);
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT) << status.error_message();
    return status.error_message();
  }

  // Nothing is left with the engine, whatever a test did.
  void TearDown() override {
    for (int i = 0; i < 1000 && engine_->waiting() > 0; ++i) absl::SleepFor(absl::Milliseconds(5));
    EXPECT_EQ(engine_->waiting(), 0);
    server_->Shutdown(absl::Seconds(5));
  }

  RequestLog log_{LogFormat::kText};
  std::unique_ptr<FakeEncoder> engine_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<ServedModel> model_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

// A call for vectors whose client takes 4 KiB of the answer, until it reads.
class LazyEmbed {
 public:
  LazyEmbed(int port, const v1::EmbedRequest& request) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4096);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // it would raise that
    grpc::GenericStub stub(grpc::CreateCustomChannel(
        "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), arguments));
    call_ = stub.PrepareCall(&context_, "/pregate.v1.Inference/Embed", &queue_);
    call_->StartCall(this);
    Await();
    const grpc::Slice bytes(request.SerializeAsString());
    call_->WriteLast(grpc::ByteBuffer(&bytes, 1), {}, this);
    Await();
  }
  ~LazyEmbed() { queue_.Shutdown(); }

  grpc::Status Read() {
    grpc::ByteBuffer answer;
    call_->Read(&answer, this);
    Await();
    grpc::Status status;
    call_->Finish(&status, this);
    Await();
    return status;
  }

 private:
  void Await() {
    void* tag;
    bool ok;
    queue_.Next(&tag, &ok);
  }

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

TEST_F(EncodingGrpcTest, B7_AClientThatDoesNotTakeItsAnswerIsGivenUp) {
  Serve(false, /*stall_timeout=*/absl::Seconds(1));
  v1::EmbedRequest request;
  for (int i = 0; i < 2000; ++i) request.add_texts(std::string("some text"));
  LazyEmbed prompt(server_->port(), request);
  EXPECT_TRUE(prompt.Read().ok());
  LazyEmbed stalled(server_->port(), request);
  absl::SleepFor(absl::Seconds(3));  // it is looked at once a second
  EXPECT_EQ(stalled.Read().error_code(), grpc::CANCELLED);
}

TEST_F(EncodingGrpcTest, TextsBecomeVectors) {
  Serve(false);
  v1::EmbedRequest request;
  request.add_texts(std::string("ab"));
  request.add_texts(std::string("cde"));
  request.set_kind(v1::EmbedRequest::PASSAGE);
  v1::EmbedResponse response;
  grpc::Status status = Embed(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.embeddings_size(), 2);
  const std::vector<float> expected =
      FakeEncoder::VectorOf({FakeEncoder::kCls, 'p', ':', 'c', 'd', 'e', FakeEncoder::kSep});
  EXPECT_EQ(std::vector<float>(response.embeddings(1).values().begin(),
                               response.embeddings(1).values().end()),
            expected);
  EXPECT_EQ(response.pooling(), v1::POOLING_MEAN);
  EXPECT_EQ(response.usage().prompt(), 6u + 7u);
  EXPECT_GT(response.timing().queue() + response.timing().prefill(), 0);

  request.clear_texts();
  request.add_token_ids()->add_ids(7);
  request.set_normalize(true);
  request.set_dimensions(1);
  request.set_pooling(v1::POOLING_CLS);
  response.Clear();
  status = Embed(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.embeddings(0).values(), ElementsAre(1.0f));
  EXPECT_EQ(response.pooling(), v1::POOLING_CLS);
  EXPECT_EQ(engine_->seen().back().pooling, Pooling::kCls);
  EXPECT_EQ(engine_->seen().back().ids, (std::vector<int32_t>{7}));
}

TEST_F(EncodingGrpcTest, DocumentsGetScores) {
  Serve(true);
  v1::ScoreRequest request;
  request.set_query("abc");
  request.add_documents(std::string("xyz"));
  request.add_documents(std::string("abc"));
  request.set_raw_scores(true);
  v1::ScoreResponse response;
  grpc::Status status = Score(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.scores(), ElementsAre(-3.0f, 0.0f));
  EXPECT_EQ(response.usage().prompt(), 18u);
  request.clear_raw_scores();
  response.Clear();
  ASSERT_TRUE(Score(request, &response).ok());
  EXPECT_FLOAT_EQ(response.scores(1), 0.5f);
}

TEST_F(EncodingGrpcTest, BadRequestsNameTheField) {
  Serve(false);
  v1::EmbedRequest request;
  EXPECT_EQ(Refusal(request), "texts: must have 1 to 2048 entries; got 0");
  for (int i = 0; i < 2049; ++i) request.add_texts(std::string("a"));
  EXPECT_EQ(Refusal(request), "texts: must have at most 2048 entries; got 2049");
  request.clear_texts();
  request.add_texts(std::string("a"));
  request.add_token_ids()->add_ids(1);
  EXPECT_EQ(Refusal(request), "token_ids: must be absent beside texts; got both");
  request.clear_texts();
  request.mutable_token_ids(0)->set_ids(0, 259);
  EXPECT_EQ(Refusal(request), "token_ids[0].input_tokens[0]: must be < 259; got 259");
  request.mutable_token_ids(0)->set_ids(0, 3000000000u);
  EXPECT_EQ(Refusal(request), "token_ids[0][0]: must be <= 2147483647; got 3000000000");
  request.mutable_token_ids(0)->set_ids(0, 5);
  request.set_pooling(static_cast<v1::Pooling>(9));
  EXPECT_EQ(Refusal(request), "pooling: must be a value of Pooling; got 9");
  request.clear_pooling();
  request.set_kind(static_cast<v1::EmbedRequest::InputKind>(-1));
  EXPECT_EQ(Refusal(request), "kind: must be a value of InputKind; got -1");
  request.clear_kind();
  request.set_dimensions(5);
  EXPECT_EQ(Refusal(request), "dimensions: must be in [1, 4]; got 5");
  request.clear_dimensions();
  request.set_model("other");
  v1::EmbedResponse response;
  EXPECT_EQ(Embed(request, &response).error_code(), grpc::NOT_FOUND);
  EXPECT_TRUE(engine_->seen().empty());
}

TEST_F(EncodingGrpcTest, WhatTheModelDoesNotDoIsSaid) {
  Serve(true);
  v1::EmbedRequest request;
  request.add_texts(std::string("a"));
  v1::EmbedResponse response;
  const grpc::Status status = Embed(request, &response);
  EXPECT_EQ(status.error_code(), grpc::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), StartsWith("model: must give embeddings; got \"fake\""));
  grpc::ClientContext context;
  v1::GenerateRequest generate;
  generate.set_text("a");
  auto reader = stub_->Generate(&context, generate);
  v1::GenerateResponse message;
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), grpc::UNIMPLEMENTED);

  grpc::ClientContext list_context;
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub_->ListModels(&list_context, {}, &models).ok());
  EXPECT_THAT(models.models(0).capabilities(), ElementsAre("tokenize", "score"));
  EXPECT_EQ(models.models(0).limits().max_inputs(), 2048u);
}

TEST_F(EncodingGrpcTest, AClientThatLeavesEndsItsTexts) {
  Serve(false);
  v1::EmbedRequest request;
  for (int i = 0; i < 500; ++i) request.add_texts(std::string("never ends?"));
  grpc::ClientContext context;
  std::thread leaver([&] {
    while (engine_->waiting() < 100) absl::SleepFor(absl::Milliseconds(1));
    context.TryCancel();
  });
  v1::EmbedResponse response;
  EXPECT_EQ(stub_->Embed(&context, request, &response).error_code(), grpc::CANCELLED);
  leaver.join();
}

TEST_F(EncodingGrpcTest, DeadlinesEndCalls) {
  Serve(false);
  v1::EmbedRequest request;
  request.add_texts(std::string("never ends?"));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  v1::EmbedResponse response;
  EXPECT_EQ(stub_->Embed(&context, request, &response).error_code(), grpc::DEADLINE_EXCEEDED);
}

TEST_F(EncodingGrpcTest, AFullQueueSaysWhenToComeBack) {
  Serve(false);
  engine_->SetMaxWaiting(0);
  v1::EmbedRequest request;
  request.add_texts(std::string("abc"));
  grpc::ClientContext context;
  v1::EmbedResponse response;
  EXPECT_EQ(stub_->Embed(&context, request, &response).error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
}

TEST_F(EncodingGrpcTest, CallsThatAreCutSayWhy) {
  Serve(false);
  v1::EmbedRequest request;
  request.add_texts(std::string("never ends?"));
  std::thread cutter([&] {
    while (engine_->waiting() < 1) absl::SleepFor(absl::Milliseconds(1));
    absl::SleepFor(absl::Milliseconds(50));
    server_->AbortStreams(absl::UnavailableError("server: drain timeout; try another replica"));
  });
  grpc::ClientContext context;
  v1::EmbedResponse response;
  const grpc::Status status = stub_->Embed(&context, request, &response);
  cutter.join();
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "server: drain timeout; try another replica");
}

}  // namespace
}  // namespace pregate
