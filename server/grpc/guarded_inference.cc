#include "server/grpc/guarded_inference.h"

#include "server/grpc/status.h"

namespace pregate {

grpc::ServerWriteReactor<v1::GenerateResponse>* GuardedInference::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  if (absl::Status refused = gate_->Admit(*context, "Generate"); !refused.ok()) {
    return new RefusedWrite<v1::GenerateResponse>(ToGrpcStatus(refused, absl::ZeroDuration()));
  }
  return service_->Generate(context, request);
}

template <auto kMethod, typename Request, typename Response>
grpc::ServerUnaryReactor* GuardedInference::Pass(grpc::CallbackServerContext* context,
                                                 const char* method, const Request* request,
                                                 Response* response) {
  if (absl::Status refused = gate_->Admit(*context, method); !refused.ok()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(refused, absl::ZeroDuration()));
    return reactor;
  }
  return (service_->*kMethod)(context, request, response);
}

grpc::ServerUnaryReactor* GuardedInference::Embed(grpc::CallbackServerContext* context,
                                                  const v1::EmbedRequest* request,
                                                  v1::EmbedResponse* response) {
  return Pass<&InferenceService::Embed>(context, "Embed", request, response);
}

grpc::ServerUnaryReactor* GuardedInference::Score(grpc::CallbackServerContext* context,
                                                  const v1::ScoreRequest* request,
                                                  v1::ScoreResponse* response) {
  return Pass<&InferenceService::Score>(context, "Score", request, response);
}

grpc::ServerUnaryReactor* GuardedInference::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  return Pass<&InferenceService::Tokenize>(context, "Tokenize", request, response);
}

grpc::ServerUnaryReactor* GuardedInference::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  return Pass<&InferenceService::Detokenize>(context, "Detokenize", request, response);
}

grpc::ServerUnaryReactor* GuardedInference::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest* request,
                                                       v1::ListModelsResponse* response) {
  return Pass<&InferenceService::ListModels>(context, "ListModels", request, response);
}

}  // namespace pregate
