#include "server/grpc/inference_service.h"

#include <utility>

#include "server/generation/retry_delay.h"
#include "server/grpc/messages.h"
#include "server/grpc/status.h"

namespace pregate {
namespace {

grpc::ServerUnaryReactor* Finished(grpc::CallbackServerContext* context,
                                   const absl::Status& status = absl::OkStatus()) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status, NextRetryDelay()));
  return reactor;
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return GenerateCall::Begin(environment_, context, *request);
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  Tokenizer::EncodeOptions options;
  options.add_special = !request->has_add_special() || request->add_special();
  options.parse_special = request->parse_special();
  const absl::StatusOr<std::vector<int32_t>> ids =
      environment_->model->Tokenize(request->model(), request->text(), options);
  if (!ids.ok()) return Finished(context, ids.status());
  AppendIds(*ids, response->mutable_ids());
  return Finished(context);
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  // As many as Tokenize could have given.
  const absl::StatusOr<std::vector<int32_t>> ids =
      ReadTokenIds("ids", request->ids(), kMaxTokenizeBytes);
  if (!ids.ok()) return Finished(context, ids.status());
  absl::StatusOr<std::string> text =
      environment_->model->Detokenize(request->model(), *ids, request->show_special());
  if (!text.ok()) return Finished(context, text.status());
  response->set_text(*std::move(text));
  return Finished(context);
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest* /*request*/,
                                                       v1::ListModelsResponse* response) {
  ToMessage(*environment_->model, response->add_models());
  return Finished(context);
}

}  // namespace pregate
