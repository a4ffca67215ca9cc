#include "server/grpc/open_inference_service.h"

#include "server/grpc/infer_call.h"
#include "server/grpc/infer_stream.h"
#include "server/grpc/open_inference_messages.h"
#include "server/grpc/status.h"

namespace pregate {
namespace {

grpc::ServerUnaryReactor* Finished(grpc::CallbackServerContext* context,
                                   const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status, absl::ZeroDuration()));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* OpenInferenceService::ServerLive(
    grpc::CallbackServerContext* context, const inference::ServerLiveRequest* /*request*/,
    inference::ServerLiveResponse* response) {
  const absl::Status admitted = gate_->Admit(*context, "ServerLive");
  if (admitted.ok()) response->set_live(state_->live);
  return Finished(context, admitted);
}

grpc::ServerUnaryReactor* OpenInferenceService::ServerReady(
    grpc::CallbackServerContext* context, const inference::ServerReadyRequest* /*request*/,
    inference::ServerReadyResponse* response) {
  const absl::Status admitted = gate_->Admit(*context, "ServerReady");
  if (admitted.ok()) response->set_ready(state_->ready);
  return Finished(context, admitted);
}

grpc::ServerUnaryReactor* OpenInferenceService::ModelReady(
    grpc::CallbackServerContext* context, const inference::ModelReadyRequest* request,
    inference::ModelReadyResponse* response) {
  const absl::Status admitted = gate_->Admit(*context, "ModelReady");
  if (admitted.ok()) {
    const bool here = CheckModel(*environment_->model, request->name(), request->version()).ok();
    response->set_ready(here && state_->ready);
  }
  return Finished(context, admitted);
}

grpc::ServerUnaryReactor* OpenInferenceService::ServerMetadata(
    grpc::CallbackServerContext* context, const inference::ServerMetadataRequest* /*request*/,
    inference::ServerMetadataResponse* response) {
  const absl::Status admitted = gate_->Admit(*context, "ServerMetadata");
  if (admitted.ok()) FillServerMetadata(response);
  return Finished(context, admitted);
}

grpc::ServerUnaryReactor* OpenInferenceService::ModelMetadata(
    grpc::CallbackServerContext* context, const inference::ModelMetadataRequest* request,
    inference::ModelMetadataResponse* response) {
  absl::Status status = gate_->Admit(*context, "ModelMetadata");
  if (status.ok()) status = CheckModel(*environment_->model, request->name(), request->version());
  if (status.ok()) ToMessage(*environment_->model, response);
  return Finished(context, status);
}

grpc::ServerUnaryReactor* OpenInferenceService::ModelInfer(
    grpc::CallbackServerContext* context, const inference::ModelInferRequest* request,
    inference::ModelInferResponse* response) {
  const absl::Status admitted = gate_->Admit(*context, "ModelInfer");
  if (!admitted.ok()) return Finished(context, admitted);
  return InferCall::Begin(environment_, context, *request, response);
}

grpc::ServerBidiReactor<inference::ModelInferRequest, inference::ModelStreamInferResponse>*
OpenInferenceService::ModelStreamInfer(grpc::CallbackServerContext* context) {
  const absl::Status admitted = gate_->Admit(*context, "ModelStreamInfer");
  if (!admitted.ok()) {
    return new RefusedBidi<inference::ModelInferRequest, inference::ModelStreamInferResponse>(
        ToGrpcStatus(admitted, absl::ZeroDuration()));
  }
  return InferStream::Begin(environment_, context);
}

}  // namespace pregate
