// OpenInferenceService: inference.GRPCInferenceService.
#ifndef PREGATE_SERVER_GRPC_OPEN_INFERENCE_SERVICE_H_
#define PREGATE_SERVER_GRPC_OPEN_INFERENCE_SERVICE_H_

#include <atomic>

#include "inference/open_inference.grpc.pb.h"
#include "server/grpc/gate.h"
#include "server/grpc/generate_call.h"

namespace pregate {

// What the server says of itself. Changed by whoever watches over the engine.
struct ServerState {
  std::atomic<bool> live = true;    // no step is stuck
  std::atomic<bool> ready = false;  // requests are taken
};

// Every call comes through the gate.
class OpenInferenceService : public inference::GRPCInferenceService::CallbackService {
 public:
  // All must outlive this.
  OpenInferenceService(const Gate* gate, const CallEnvironment* environment,
                       const ServerState* state)
      : gate_(gate), environment_(environment), state_(state) {}

  grpc::ServerUnaryReactor* ServerLive(grpc::CallbackServerContext* context,
                                       const inference::ServerLiveRequest* request,
                                       inference::ServerLiveResponse* response) override;
  grpc::ServerUnaryReactor* ServerReady(grpc::CallbackServerContext* context,
                                        const inference::ServerReadyRequest* request,
                                        inference::ServerReadyResponse* response) override;
  grpc::ServerUnaryReactor* ModelReady(grpc::CallbackServerContext* context,
                                       const inference::ModelReadyRequest* request,
                                       inference::ModelReadyResponse* response) override;
  grpc::ServerUnaryReactor* ServerMetadata(grpc::CallbackServerContext* context,
                                           const inference::ServerMetadataRequest* request,
                                           inference::ServerMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelMetadata(grpc::CallbackServerContext* context,
                                          const inference::ModelMetadataRequest* request,
                                          inference::ModelMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const inference::ModelInferRequest* request,
                                       inference::ModelInferResponse* response) override;
  grpc::ServerBidiReactor<inference::ModelInferRequest, inference::ModelStreamInferResponse>*
  ModelStreamInfer(grpc::CallbackServerContext* context) override;

 private:
  const Gate* const gate_;
  const CallEnvironment* const environment_;
  const ServerState* const state_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_OPEN_INFERENCE_SERVICE_H_
