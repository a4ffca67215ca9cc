#include "server/openai/chat_request.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/openai/unserved_fields.h"

namespace pregate {
namespace {

using nlohmann::json;

// Of a message. `refusal` and `annotations` come back from clients that send on what they got.
constexpr const char* kUnservedInMessages[] = {"tool_calls", "function_call", "audio"};

// The text of content that is given in parts. Stays within `fields`' first error.
std::string ReadParts(JsonFields* fields, const json& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string name = fields->NameOf(absl::StrCat("content[", i, "]"));
    if (!parts[i].is_object()) {
      fields->Fail(JsonFieldError(name, "be an object with `type`", parts[i]));
      return "";
    }
    const json type = parts[i].value("type", json());
    if (type != "text") {
      fields->Fail(type.is_string()
                       ? UnservedError(name + ".type", "be text, other media are not served", type)
                       : JsonFieldError(name + ".type", "be text", type));
      return "";
    }
    const json piece = parts[i].value("text", json());
    if (!piece.is_string()) {
      fields->Fail(JsonFieldError(name + ".text", "be a string", piece));
      return "";
    }
    if (i > 0) text += '\n';
    text += piece.get_ref<const std::string&>();
  }
  return text;
}

ChatMessage ReadMessage(JsonFields* fields) {
  ChatMessage message;
  fields->Text("role", &message.role);
  for (const char* unserved : kUnservedInMessages) {
    const json* value = fields->Find(unserved);
    if (value == nullptr || (value->is_array() && value->empty())) continue;
    fields->Fail(UnservedError(fields->NameOf(unserved), "be absent, it is not served", *value));
  }
  const json* content = fields->Find("content");
  if (content == nullptr || !(content->is_string() || content->is_array())) {
    fields->Fail(JsonFieldError(fields->NameOf("content"), "be a string or a list of text parts",
                                content == nullptr ? json() : *content));
  } else if (content->is_string()) {
    message.content = content->get_ref<const std::string&>();
  } else {
    message.content = ReadParts(fields, *content);
  }
  return message;
}

void ReadLogprobs(JsonFields* fields, ClientRequest* request) {
  bool wanted = false;
  fields->Bool("logprobs", &wanted);
  std::optional<int32_t> top;
  fields->Integer("top_logprobs", &top);
  if (wanted) {
    request->logprobs = top.value_or(0);
  } else if (top.value_or(0) != 0) {
    fields->Fail(FieldError("top_logprobs", "be absent unless `logprobs` is true", *top));
  }
}

}  // namespace

std::vector<ChatMessage> ReadMessages(JsonFields* fields, const json& messages) {
  std::vector<ChatMessage> read;
  if (!messages.is_array()) {
    fields->Fail(JsonFieldError("messages", "be a list", messages));
    return read;
  }
  if (absl::Status status = CheckCount("messages", messages, kMaxChatMessages); !status.ok()) {
    fields->Fail(status);
    return read;
  }
  for (const json& message : messages) {
    const std::string name = absl::StrCat("messages[", read.size(), "]");
    if (!message.is_object()) {
      fields->Fail(JsonFieldError(name, "be an object with `role` and `content`", message));
      return read;
    }
    JsonFields of_message(&message, name + ".");
    read.push_back(ReadMessage(&of_message));
    fields->Fail(of_message.status());
    if (!fields->status().ok()) return read;
  }
  return read;
}

absl::StatusOr<ChatRequest> ReadChatRequest(const json& body, int32_t max_model_len) {
  if (absl::Status status = RefuseUnservedFields(body); !status.ok()) return status;
  JsonFields fields(&body);
  ChatRequest chat;
  ClientRequest& request = chat.request;
  request.max_tokens = max_model_len;
  ReadSampling(&fields, &request);
  fields.Integer("max_tokens", &request.max_tokens);
  fields.Integer("max_completion_tokens", &request.max_tokens);
  ReadLogprobs(&fields, &request);
  ReadLogprobIds(&fields, &request);
  chat.stream = ReadStream(&fields);
  chat.prompt_logprobs = ReadPromptLogprobs(&fields, chat.stream, &request);
  const json* messages = fields.Find("messages");
  request.prompt = ReadMessages(&fields, messages == nullptr ? json() : *messages);
  if (!fields.status().ok()) return fields.status();
  return chat;
}

}  // namespace pregate
