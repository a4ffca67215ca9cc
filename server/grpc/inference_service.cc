#include "server/grpc/inference_service.h"

#include <utility>

#include "server/generation/retry_delay.h"
#include "server/grpc/call_deadline.h"
#include "server/grpc/encoding_messages.h"
#include "server/grpc/encoding_reactor.h"
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

// What the core plans of a message, or why it does not.
template <typename Message, typename Ask>
absl::StatusOr<EncodingJob> PlanCall(const ServedModel& model,
                                     const grpc::CallbackServerContext& context,
                                     const Message& message,
                                     absl::StatusOr<EncodingJob> (*plan)(const ServedModel&, Ask)) {
  absl::StatusOr<Ask> ask = FromMessage(message);
  if (!ask.ok()) return ask.status();
  ask->caller.deadline = DeadlineOf(context);
  return plan(model, *std::move(ask));
}

template <typename Response>
EncodingReactor::Fill FillOf(Response* response) {
  return [response](const EncodingResult& result, const RequestTiming& timing) {
    ToMessage(result, response);
    ToMessage(timing, response->mutable_timing());
    return response->ByteSizeLong();
  };
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return GenerateCall::Begin(environment_, context, *request);
}

grpc::ServerUnaryReactor* InferenceService::Embed(grpc::CallbackServerContext* context,
                                                  const v1::EmbedRequest* request,
                                                  v1::EmbedResponse* response) {
  return EncodingReactor::Begin(environment_, context, "Embed", request->request_id(),
                                PlanCall(*environment_->model, *context, *request, PlanEmbedding),
                                FillOf(response));
}

grpc::ServerUnaryReactor* InferenceService::Score(grpc::CallbackServerContext* context,
                                                  const v1::ScoreRequest* request,
                                                  v1::ScoreResponse* response) {
  return EncodingReactor::Begin(environment_, context, "Score", request->request_id(),
                                PlanCall(*environment_->model, *context, *request, PlanScoring),
                                FillOf(response));
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
