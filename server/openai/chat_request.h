// The body of POST /v1/chat/completions.
#ifndef PREGATE_SERVER_OPENAI_CHAT_REQUEST_H_
#define PREGATE_SERVER_OPENAI_CHAT_REQUEST_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/status/statusor.h"
#include "server/generation/client_request.h"
#include "server/openai/sampling_fields.h"

namespace pregate {

struct ChatRequest {
  ClientRequest request;
  StreamFields stream;
  bool prompt_logprobs = false;  // asked for
};

// An answer may be as long as the context, `max_model_len`, lets it. INVALID_ARGUMENT;
// UNIMPLEMENTED for what is not served: a part of a message that is no text is named, not fetched.
absl::StatusOr<ChatRequest> ReadChatRequest(const nlohmann::json& body, int32_t max_model_len);

// The messages of a conversation; `fields` gets the error.
std::vector<ChatMessage> ReadMessages(JsonFields* fields, const nlohmann::json& messages);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_CHAT_REQUEST_H_
