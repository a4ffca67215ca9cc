#include "server/grpc/encoding_messages.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/generation/client_request.h"

namespace pregate {
namespace {

absl::StatusOr<Pooling> ReadPooling(v1::Pooling pooling) {
  switch (pooling) {
    case v1::POOLING_MODEL:
      return Pooling::kNone;
    case v1::POOLING_CLS:
      return Pooling::kCls;
    case v1::POOLING_MEAN:
      return Pooling::kMean;
    case v1::POOLING_LAST:
      return Pooling::kLast;
    default:
      return FieldError("pooling", "be a value of Pooling", int64_t{pooling});
  }
}

absl::StatusOr<InputKind> ReadKind(v1::EmbedRequest::InputKind kind) {
  switch (kind) {
    case v1::EmbedRequest::PLAIN:
      return InputKind::kPlain;
    case v1::EmbedRequest::QUERY:
      return InputKind::kQuery;
    case v1::EmbedRequest::PASSAGE:
      return InputKind::kPassage;
    default:
      return FieldError("kind", "be a value of InputKind", int64_t{kind});
  }
}

template <typename Message>
EncodingCaller CallerOf(const Message& message) {
  EncodingCaller caller;
  caller.model = message.model();
  caller.request_id = message.request_id();
  caller.tenant = message.tenant();
  caller.priority = message.priority();
  return caller;
}

absl::Status ReadInputs(const v1::EmbedRequest& message, EmbedAsk* ask) {
  if (message.texts_size() > 0 && message.token_ids_size() > 0) {
    return absl::InvalidArgumentError("token_ids: must be absent beside texts; got both");
  }
  if (absl::Status status = CheckCount("texts", message.texts(), kMaxInputs); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckCount("token_ids", message.token_ids(), kMaxInputs);
      !status.ok()) {
    return status;
  }
  ask->field = std::string(message.token_ids_size() > 0 ? "token_ids" : "texts");
  for (const std::string& text : message.texts()) ask->inputs.emplace_back(text);
  for (int i = 0; i < message.token_ids_size(); ++i) {
    absl::StatusOr<std::vector<int32_t>> ids =
        ReadTokenIds(absl::StrCat("token_ids[", i, "]"), message.token_ids(i).ids(), kMaxInputIds);
    if (!ids.ok()) return ids.status();
    ask->inputs.emplace_back(*std::move(ids));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EmbedAsk> FromMessage(const v1::EmbedRequest& message) {
  EmbedAsk ask;
  ask.caller = CallerOf(message);
  const absl::StatusOr<Pooling> pooling = ReadPooling(message.pooling());
  if (!pooling.ok()) return pooling.status();
  const absl::StatusOr<InputKind> kind = ReadKind(message.kind());
  if (!kind.ok()) return kind.status();
  if (absl::Status status = ReadInputs(message, &ask); !status.ok()) return status;
  ask.pooling = *pooling;
  ask.kind = *kind;
  ask.normalize = message.normalize();
  if (message.has_dimensions()) ask.dimensions = message.dimensions();
  ask.truncate = message.truncate();
  return ask;
}

absl::StatusOr<ScoreAsk> FromMessage(const v1::ScoreRequest& message) {
  if (absl::Status status = CheckCount("documents", message.documents(), kMaxInputs);
      !status.ok()) {
    return status;
  }
  ScoreAsk ask;
  ask.caller = CallerOf(message);
  ask.query = message.query();
  ask.documents.assign(message.documents().begin(), message.documents().end());
  ask.sigmoid = !message.raw_scores();
  ask.truncate = message.truncate();
  return ask;
}

void ToMessage(const EncodingResult& result, v1::EmbedResponse* message) {
  for (const std::vector<float>& vector : result.vectors) {
    message->add_embeddings()->mutable_values()->Add(vector.begin(), vector.end());
  }
  message->set_pooling(ToMessage(result.pooling));
  message->mutable_usage()->set_prompt(static_cast<uint32_t>(result.tokens));
}

void ToMessage(const EncodingResult& result, v1::ScoreResponse* message) {
  message->mutable_scores()->Add(result.scores.begin(), result.scores.end());
  message->mutable_usage()->set_prompt(static_cast<uint32_t>(result.tokens));
}

v1::Pooling ToMessage(Pooling pooling) {
  switch (pooling) {
    case Pooling::kNone:
      return v1::POOLING_MODEL;
    case Pooling::kCls:
      return v1::POOLING_CLS;
    case Pooling::kMean:
      return v1::POOLING_MEAN;
    case Pooling::kLast:
      break;
  }
  return v1::POOLING_LAST;
}

}  // namespace pregate
