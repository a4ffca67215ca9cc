// Between the messages of the Open Inference Protocol and the generation core.
#ifndef PREGATE_SERVER_GRPC_OPEN_INFERENCE_MESSAGES_H_
#define PREGATE_SERVER_GRPC_OPEN_INFERENCE_MESSAGES_H_

#include <string>

#include "absl/status/statusor.h"
#include "inference/open_inference.pb.h"
#include "server/generation/answer_text.h"
#include "server/generation/served_model.h"
#include "server/open_inference/infer_request.h"

namespace pregate {

// INVALID_ARGUMENT when a tensor's datatype, shape and contents do not belong together.
absl::StatusOr<InferRequest> FromMessage(const inference::ModelInferRequest& message);

// What a response repeats of its request.
struct InferEcho {
  std::string id;
  bool raw = true;  // outputs as raw bytes
};
InferEcho EchoOf(const inference::ModelInferRequest& message);

// Whether more responses to the same request follow, for ModelStreamInfer.
enum class Finality : uint8_t { kUnsaid, kMore, kFinal };

// A response without outputs.
void StartMessage(const InferEcho& echo, const ServedModel& model, Finality finality,
                  inference::ModelInferResponse* message);
// The text of `delta`, and once it has ended how.
void ToMessage(const AnswerDelta& delta, const InferEcho& echo, const ServedModel& model,
               Finality finality, inference::ModelInferResponse* message);

void ToMessage(const ServedModel& model, inference::ModelMetadataResponse* message);
void FillServerMetadata(inference::ServerMetadataResponse* message);

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_OPEN_INFERENCE_MESSAGES_H_
