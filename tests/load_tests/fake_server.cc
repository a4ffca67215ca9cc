#include "tests/load_tests/fake_server.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>

#include "pregate/v1/inference.grpc.pb.h"

namespace pregate {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kMaxModelLen = 4096;

Clock::duration Seconds(double s) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
}

class FakeInference final : public v1::Inference::Service {
 public:
  explicit FakeInference(const FakeServerOptions& options) : options_(options) {}

  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    v1::Model* model = response->add_models();
    model->set_name("fake");
    model->mutable_limits()->set_vocab_size(options_.vocab_size);
    model->mutable_limits()->set_max_model_len(kMaxModelLen);
    return grpc::Status::OK;
  }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    const Clock::time_point arrival = Clock::now();
    std::call_once(first_request_, [&] { start_ = arrival; });
    const int open = ++open_;
    grpc::Status status = grpc::Status::OK;
    if (open > options_.max_streams) {
      status = {grpc::StatusCode::RESOURCE_EXHAUSTED, "queue: full"};
    } else if (!IsExact(*request)) {
      status = {grpc::StatusCode::INVALID_ARGUMENT, "not a request of a load test"};
    } else {
      int most = most_open_.load();
      while (open > most && !most_open_.compare_exchange_weak(most, open)) {
      }
      Answer(context, *request, arrival, writer);
    }
    --open_;
    return status;
  }

  int most_open() const { return most_open_; }

 private:
  bool IsExact(const v1::GenerateRequest& request) const {
    const auto& ids = request.token_ids().ids();
    const auto known = [&](uint32_t id) { return id < options_.vocab_size; };
    return !ids.empty() && std::all_of(ids.begin(), ids.end(), known) &&
           request.sampling().ignore_eos() && request.sampling().max_tokens() > 0 &&
           request.sampling().has_temperature() && request.sampling().temperature() == 0;
  }

  void Answer(grpc::ServerContext* context, const v1::GenerateRequest& request,
              Clock::time_point arrival, grpc::ServerWriter<v1::GenerateResponse>* writer) {
    const auto tokens = static_cast<int64_t>(
        std::ceil(options_.cut_after * static_cast<double>(request.sampling().max_tokens())));
    for (int64_t i = 0; i < tokens && !context->IsCancelled(); ++i) {
      const double wait =
          options_.first_token_s + static_cast<double>(i) * options_.between_tokens_s;
      std::this_thread::sleep_until(AfterFreeze(arrival + Seconds(wait)));
      v1::GenerateResponse response;
      response.add_token_ids(7);
      if (i + 1 == tokens) response.set_finish_reason(v1::GenerateResponse::LENGTH);
      writer->Write(response);
    }
  }

  // The time itself, or the end of the freeze that it lies in.
  Clock::time_point AfterFreeze(Clock::time_point time) const {
    const Clock::time_point from = start_ + Seconds(options_.freeze_from_s);
    const Clock::time_point to = from + Seconds(options_.freeze_s);
    return time >= from && time < to ? to : time;
  }

  const FakeServerOptions options_;
  std::once_flag first_request_;
  Clock::time_point start_;
  std::atomic<int> open_{0}, most_open_{0};
};

}  // namespace

struct FakeServer::State {
  explicit State(const FakeServerOptions& options) : service(options) {}
  FakeInference service;
  std::unique_ptr<grpc::Server> server;
};

FakeServer::FakeServer(const FakeServerOptions& options) : state_(new State(options)) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&state_->service);
  state_->server = builder.BuildAndStart();
  address_ = "127.0.0.1:" + std::to_string(port);
}

FakeServer::~FakeServer() { state_->server->Shutdown(); }

int FakeServer::most_streams() const { return state_->service.most_open(); }

}  // namespace pregate
