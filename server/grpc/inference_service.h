// InferenceService: pregate.v1.Inference.
#ifndef PREGATE_SERVER_GRPC_INFERENCE_SERVICE_H_
#define PREGATE_SERVER_GRPC_INFERENCE_SERVICE_H_

#include "pregate/v1/inference.grpc.pb.h"
#include "server/grpc/generate_call.h"

namespace pregate {

class InferenceService : public v1::Inference::CallbackService {
 public:
  // `environment` must outlive this.
  explicit InferenceService(const CallEnvironment* environment) : environment_(environment) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

 private:
  const CallEnvironment* environment_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_INFERENCE_SERVICE_H_
