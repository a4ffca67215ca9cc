// ModelStreamInfer over loopback, on a small random model: readers that stall, streams that are
// cut, and the gate in front.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <string>

#include "inference/open_inference.grpc.pb.h"
#include "server/grpc/grpc_server.h"
#include "tests/server/random_server.h"

namespace pregate {
namespace {

using ::testing::StartsWith;
using Stub = inference::GRPCInferenceService::Stub;
using Stream =
    grpc::ClientReaderWriter<inference::ModelInferRequest, inference::ModelStreamInferResponse>;

class InferStreamTest : public ::testing::Test {
 protected:
  void StartServer(const Authorizer* authorizer = nullptr) {
    RandomModelSpec spec;  // slow enough for a test to come between its steps
    spec.hidden_size = 256;
    spec.ffn_size = 512;
    spec.num_layers = 4;
    spec.context_length = 8192;
    parts_ = std::make_unique<RandomServer>(EngineOptions(), spec);
    GrpcServerOptions options;
    options.stall_timeout = absl::Seconds(1);
    options.authorizer = authorizer;
    auto server = GrpcServer::Start(options, &parts_->model, &log_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  void TearDown() override {
    EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Seconds(60)));
    EXPECT_EQ(parts_->engine->stats().kv_cache_usage, 0.0);
    server_->Shutdown(absl::Seconds(5));
  }

  // A client that takes 64 KiB into its buffers, and not more as it learns how fast loopback is.
  std::unique_ptr<Stub> NewStub() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    return inference::GRPCInferenceService::NewStub(
        grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                  grpc::InsecureChannelCredentials(), arguments));
  }

  static inference::ModelInferRequest Ask(const std::string& id, int64_t max_tokens) {
    inference::ModelInferRequest request;
    request.set_model_name("random");
    request.set_id(id);
    auto* text = request.add_inputs();
    text->set_name("text_input");
    text->set_datatype("BYTES");
    text->add_shape(1);
    text->mutable_contents()->add_bytes_contents("Hello");
    auto& parameters = *request.mutable_parameters();
    parameters["max_tokens"].set_int64_param(max_tokens);
    parameters["temperature"].set_int64_param(0);
    parameters["ignore_eos"].set_bool_param(true);
    return request;
  }

  RequestLog log_{LogFormat::kText};
  std::unique_ptr<RandomServer> parts_;
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(InferStreamTest, B7_AReaderThatStallsIsGivenUp) {
  StartServer();
  const auto stub = NewStub();
  grpc::ClientContext stalled;
  const auto stream = stub->ModelStreamInfer(&stalled);
  for (const char* id : {"a", "b"}) ASSERT_TRUE(stream->Write(Ask(id, 8000)));
  inference::ModelStreamInferResponse response;
  ASSERT_TRUE(stream->Read(&response));
  // Others are served meanwhile.
  grpc::ClientContext other;
  inference::ModelInferResponse whole;
  EXPECT_TRUE(NewStub()->ModelInfer(&other, Ask("c", 50), &whole).ok());
  EXPECT_EQ(whole.parameters().at("completion_tokens").int64_param(), 50);
  EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Seconds(60)));
  while (stream->Read(&response)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::CANCELLED);
}

TEST_F(InferStreamTest, D4_RequestsThatAreCutAreToldSoInTheStream) {
  StartServer();
  const auto stub = NewStub();
  grpc::ClientContext context;
  const auto stream = stub->ModelStreamInfer(&context);
  for (const char* id : {"a", "b"}) ASSERT_TRUE(stream->Write(Ask(id, 8000)));
  inference::ModelStreamInferResponse response;
  std::set<std::string> begun, ended;
  while (begun.size() < 2 && stream->Read(&response)) begun.insert(response.infer_response().id());
  server_->AbortStreams(absl::UnavailableError("server: drain timeout"));
  while (stream->Read(&response)) {
    if (response.error_message().empty()) continue;
    EXPECT_EQ(response.error_message(), "server: drain timeout");
    EXPECT_TRUE(response.infer_response().parameters().at("triton_final_response").bool_param());
    EXPECT_TRUE(ended.insert(response.infer_response().id()).second);
  }
  EXPECT_EQ(ended, begun);
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "server: drain timeout");
}

TEST_F(InferStreamTest, C4_LeavingEndsEveryRequest) {
  StartServer();
  const auto stub = NewStub();
  for (int round = 0; round < 20; ++round) {
    grpc::ClientContext context;
    const auto stream = stub->ModelStreamInfer(&context);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(stream->Write(Ask("a", 8000)));
    inference::ModelStreamInferResponse response;
    for (int i = 0; i < round % 5; ++i) ASSERT_TRUE(stream->Read(&response));
    context.TryCancel();
    while (stream->Read(&response)) {
    }
    EXPECT_EQ(stream->Finish().error_code(), grpc::CANCELLED);
  }
  EXPECT_TRUE(parts_->engine->WaitUntilIdle(absl::Seconds(5)));
}

TEST_F(InferStreamTest, G1_NothingIsReadWithoutAToken) {
  std::string path = ::testing::TempDir() + "tokens_XXXXXX";
  close(mkstemp(path.data()));
  std::ofstream(path) << "caller:0123456789abcdef\n";
  const auto authorizer = Authorizer::Open(path);
  ASSERT_TRUE(authorizer.ok()) << authorizer.status();
  std::remove(path.c_str());
  StartServer(authorizer->get());
  const auto stub = NewStub();
  for (const bool known : {false, true}) {
    grpc::ClientContext context;
    if (known) context.AddMetadata("authorization", "Bearer 0123456789abcdef");
    const auto stream = stub->ModelStreamInfer(&context);
    stream->Write(Ask("a", 1));
    stream->WritesDone();
    inference::ModelStreamInferResponse response;
    int responses = 0;
    while (stream->Read(&response)) ++responses;
    EXPECT_EQ(responses, known ? 1 : 0);
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(status.error_code(), known ? grpc::OK : grpc::UNAUTHENTICATED);
    EXPECT_THAT(status.error_message(), StartsWith(known ? "" : "authorization: must be"));
  }
}

}  // namespace
}  // namespace pregate
