// Between the messages of Embed and Score and what the core plans of them.
#ifndef PREGATE_SERVER_GRPC_ENCODING_MESSAGES_H_
#define PREGATE_SERVER_GRPC_ENCODING_MESSAGES_H_

#include "absl/status/statusor.h"
#include "pregate/v1/inference.pb.h"
#include "server/embedding/embed_job.h"
#include "server/embedding/score_job.h"

namespace pregate {

// INVALID_ARGUMENT when there are too many of what repeats: then none is copied.
absl::StatusOr<EmbedAsk> FromMessage(const v1::EmbedRequest& message);
absl::StatusOr<ScoreAsk> FromMessage(const v1::ScoreRequest& message);

void ToMessage(const EncodingResult& result, v1::EmbedResponse* message);
void ToMessage(const EncodingResult& result, v1::ScoreResponse* message);

v1::Pooling ToMessage(Pooling pooling);

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_ENCODING_MESSAGES_H_
