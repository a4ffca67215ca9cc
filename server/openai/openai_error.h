// Errors as OpenAI's clients read them.
#ifndef PREGATE_SERVER_OPENAI_OPENAI_ERROR_H_
#define PREGATE_SERVER_OPENAI_OPENAI_ERROR_H_

#include <string>

#include "absl/status/status.h"
#include "server/http/http_message.h"

namespace pregate {

// {"error":{"message":...,"type":...,"param":...,"code":...}}; `param` is the field that the
// message begins with.
std::string OpenAiErrorText(int http_status, const absl::Status& status);

HttpResponse OpenAiError(int http_status, const absl::Status& status);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_OPENAI_ERROR_H_
