#include "server/openai/openai_error.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/openai/json_body.h"

namespace pregate {
namespace {

// What the generation core calls a field, and what it is called here.
constexpr std::pair<absl::string_view, absl::string_view> kNames[] = {
    {"chat.messages", "messages"}, {"chat:", "messages:"}, {"text:", "prompt:"}};

std::string Renamed(absl::string_view message) {
  for (const auto& [ours, theirs] : kNames) {
    if (absl::StartsWith(message, ours)) {
      return absl::StrCat(theirs, message.substr(ours.size()));
    }
  }
  return std::string(message);
}

absl::string_view TypeOf(int http_status) {
  if (http_status == 429) return "rate_limit_error";
  if (http_status == 504) return "timeout_error";
  return http_status >= 500 && http_status != 501 ? "server_error" : "invalid_request_error";
}

// "": none.
absl::string_view CodeOf(int http_status, absl::string_view message) {
  switch (http_status) {
    case 400:
      return absl::StrContains(message, "context_length_exceeded") ? "context_length_exceeded" : "";
    case 401:
      return "invalid_api_key";
    case 404:
      return absl::StartsWith(message, "model:") ? "model_not_found" : "";
    case 429:
      return "rate_limit_exceeded";
    case 501:
      return "unsupported";
    default:
      return "";
  }
}

// The field that the client would have to change; "": it is not the client's request.
absl::string_view ParamOf(const absl::Status& status, absl::string_view message) {
  if (!absl::IsInvalidArgument(status) && !absl::IsUnimplemented(status) &&
      !absl::IsNotFound(status)) {
    return "";
  }
  const size_t colon = message.find(": ");
  return colon == absl::string_view::npos ? "" : message.substr(0, colon);
}

std::string TextOrNull(absl::string_view text) { return text.empty() ? "null" : JsonText(text); }

}  // namespace

std::string OpenAiErrorText(int http_status, const absl::Status& status) {
  const std::string message = Renamed(status.message());
  return absl::StrCat(R"({"error":{"message":)", JsonText(message), R"(,"type":)",
                      JsonText(TypeOf(http_status)), R"(,"param":)",
                      TextOrNull(ParamOf(status, message)), R"(,"code":)",
                      TextOrNull(CodeOf(http_status, message)), "}}");
}

HttpResponse OpenAiError(int http_status, const absl::Status& status) {
  HttpResponse response;
  response.body = OpenAiErrorText(http_status, status);
  // The official clients repeat whatever ends with 5xx, unless told that it is of no use.
  if (http_status == 501 || http_status == 504) {
    response.headers.emplace_back("x-should-retry", "false");
  }
  return response;
}

}  // namespace pregate
