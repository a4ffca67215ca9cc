// Between the messages of pregate.v1 and the generation core.
#ifndef PREGATE_SERVER_GRPC_MESSAGES_H_
#define PREGATE_SERVER_GRPC_MESSAGES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "pregate/v1/inference.pb.h"
#include "server/generation/answer_text.h"
#include "server/generation/client_request.h"
#include "server/generation/served_model.h"

namespace pregate {

// Of one request, in bytes.
inline constexpr int32_t kMaxMessageBytes = 16 << 20;

// INVALID_ARGUMENT when something repeats too often, UNIMPLEMENTED for what is not served.
// Of more ids than `max_model_len`, none is copied.
absl::StatusOr<ClientRequest> FromMessage(const v1::GenerateRequest& message,
                                          int32_t max_model_len);

void ToMessage(const AnswerDelta& delta, const Tokenizer& tokenizer, v1::GenerateResponse* message);

void ToMessage(const RequestTiming& timing, v1::Timing* message);

void ToMessage(const ServedModel& model, v1::Model* message);

void AppendIds(absl::Span<const int32_t> ids, google::protobuf::RepeatedField<uint32_t>* to);

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_MESSAGES_H_
