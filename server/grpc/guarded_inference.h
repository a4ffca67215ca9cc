// GuardedInference: pregate.v1.Inference behind the gate.
#ifndef PREGATE_SERVER_GRPC_GUARDED_INFERENCE_H_
#define PREGATE_SERVER_GRPC_GUARDED_INFERENCE_H_

#include "server/grpc/gate.h"
#include "server/grpc/inference_service.h"

namespace pregate {

// Hands each call on that is let in. A method that is missing here is not served at all.
class GuardedInference : public v1::Inference::CallbackService {
 public:
  // Both must outlive this.
  GuardedInference(const Gate* gate, InferenceService* service) : gate_(gate), service_(service) {}

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
  template <auto kMethod, typename Request, typename Response>
  grpc::ServerUnaryReactor* Pass(grpc::CallbackServerContext* context, const char* method,
                                 const Request* request, Response* response);

  const Gate* const gate_;
  InferenceService* const service_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_GUARDED_INFERENCE_H_
