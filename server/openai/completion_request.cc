#include "server/openai/completion_request.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/openai/unserved_fields.h"

namespace pregate {
namespace {

using nlohmann::json;
using Prompt = decltype(ClientRequest::prompt);

constexpr int64_t kDefaultMaxTokens = 16;  // OpenAI's
constexpr absl::string_view kPromptRule =
    "be a string, a list of strings, a list of token ids or a list of such lists";

// `name` in errors: "prompt", "prompt[3]".
Prompt ReadIdsPrompt(JsonFields* fields, const std::string& name, const json& ids,
                     int32_t max_model_len) {
  const int64_t size = static_cast<int64_t>(ids.size());
  if (size > max_model_len) {
    fields->Fail(FieldError(
        name, absl::StrCat("be at most ", max_model_len, " tokens (context_length_exceeded)"),
        size));
    return {};
  }
  return ReadJsonIds(fields, name, ids, max_model_len);
}

std::vector<Prompt> ReadPrompts(JsonFields* fields, int32_t max_model_len) {
  const json* prompt = fields->Find("prompt");
  if (prompt == nullptr) {
    fields->Fail(JsonFieldError("prompt", kPromptRule, nullptr));
    return {};
  }
  if (prompt->is_string()) return {prompt->get<std::string>()};
  if (!prompt->is_array() || prompt->empty()) {
    fields->Fail(JsonFieldError("prompt", kPromptRule, *prompt));
    return {};
  }
  if (prompt->front().is_number()) {
    return {ReadIdsPrompt(fields, "prompt", *prompt, max_model_len)};
  }
  if (absl::Status status = CheckCount("prompt", *prompt, kMaxPrompts); !status.ok()) {
    fields->Fail(status);
    return {};
  }
  std::vector<Prompt> prompts;
  for (const json& one : *prompt) {
    const std::string name = absl::StrCat("prompt[", prompts.size(), "]");
    if (one.is_string()) {
      prompts.emplace_back(one.get<std::string>());
    } else if (one.is_array()) {
      prompts.push_back(ReadIdsPrompt(fields, name, one, max_model_len));
    } else {
      fields->Fail(JsonFieldError(name, "be a string or a list of token ids", one));
    }
    if (!fields->status().ok()) return {};
  }
  return prompts;
}

absl::StatusOr<std::vector<int32_t>> IdsOf(const ServedModel& model, const ClientRequest& request) {
  const auto* text = std::get_if<std::string>(&request.prompt);
  if (text == nullptr) return std::get<std::vector<int32_t>>(request.prompt);
  if (text->empty()) return FieldError("prompt", "not be empty", *text);
  return model.Tokenize(request.model, *text, {});
}

// The prompt of `request`, which has the ids `ids`.
absl::StatusOr<Echo> EchoOf(const ServedModel& model, ClientRequest* request,
                            std::vector<int32_t> ids) {
  Echo echo;
  echo.ids = std::move(ids);
  if (auto* text = std::get_if<std::string>(&request->prompt)) {
    echo.text = std::move(*text);
    return echo;
  }
  absl::StatusOr<std::string> text =
      model.Detokenize(request->model, echo.ids, /*show_special=*/false);
  if (!text.ok()) return text.status();
  echo.text = *std::move(text);
  return echo;
}

int64_t ScoredBytes(const ClientRequest& request, const std::vector<int32_t>& ids) {
  if (!request.prompt_logprobs.has_value()) return 0;
  constexpr int64_t kMost = 1024;  // more than ValidateRequest lets pass
  const int64_t top = std::clamp<int64_t>(*request.prompt_logprobs, 0, kMost);
  const int64_t worded = std::clamp<int64_t>(request.n, 1, kMaxAnswers);  // with each answer
  return worded *
         PromptLogprobBytes(std::ssize(ids), top, std::ssize(request.sampling.logprob_token_ids));
}

// With `echo`, `logprobs` are the prompt's too, and max_tokens may be 0: the prompt is only read.
absl::StatusOr<bool> ReadEcho(JsonFields* fields, ClientRequest* request) {
  bool echo = false;
  fields->Bool("echo", &echo);
  if (!fields->status().ok()) return fields->status();
  if (!echo) return false;
  if (request->logprobs.has_value()) {
    request->prompt_logprobs = std::max(*request->logprobs, request->prompt_logprobs.value_or(0));
  }
  // The engine reads a prompt without answering only for its log-probabilities.
  if (request->max_tokens == 0 && !request->prompt_logprobs.has_value()) {
    request->prompt_logprobs = 0;
  }
  return true;
}

}  // namespace

absl::StatusOr<CompletionRequest> ReadCompletionRequest(const json& body,
                                                        const ServedModel& model) {
  if (absl::Status status = RefuseUnservedFields(body); !status.ok()) return status;
  JsonFields fields(&body);
  ClientRequest common;
  common.max_tokens = kDefaultMaxTokens;
  ReadSampling(&fields, &common);
  fields.Integer("max_tokens", &common.max_tokens);
  fields.Integer("logprobs", &common.logprobs);
  ReadLogprobIds(&fields, &common);
  CompletionRequest request;
  request.stream = ReadStream(&fields);
  request.logprobs = common.logprobs.has_value();
  request.prompt_logprobs = ReadPromptLogprobs(&fields, request.stream, &common);
  const absl::StatusOr<bool> echo = ReadEcho(&fields, &common);
  if (!echo.ok()) return echo.status();
  if (*echo && request.logprobs && request.stream.stream) {
    return UnservedError("echo", "be false in a stream with logprobs, both are not served", true);
  }
  std::vector<Prompt> prompts = ReadPrompts(&fields, model.engine().model().max_model_len);
  if (!fields.status().ok()) return fields.status();
  int64_t scored_bytes = 0;
  for (Prompt& prompt : prompts) {
    ClientRequest one = common;
    one.prompt = std::move(prompt);
    if (*echo || one.prompt_logprobs.has_value()) {
      absl::StatusOr<std::vector<int32_t>> ids = IdsOf(model, one);
      if (!ids.ok()) return ids.status();
      scored_bytes += ScoredBytes(one, *ids);
      // ValidateRequest's bound for one prompt, here for all of a call.
      if (scored_bytes > kMaxPromptLogprobBytes) {
        return FieldError(
            "prompt_logprobs",
            absl::StrCat("be at most ", kMaxPromptLogprobBytes, " bytes for all prompts together"),
            scored_bytes);
      }
      if (*echo) {
        absl::StatusOr<Echo> given_back = EchoOf(model, &one, *ids);
        if (!given_back.ok()) return given_back.status();
        request.echo.push_back(*std::move(given_back));
      }
      one.prompt = *std::move(ids);
    }
    request.prompts.push_back(std::move(one));
  }
  return request;
}

}  // namespace pregate
