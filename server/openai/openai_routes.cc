#include "server/openai/openai_routes.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/openai/chat_format.h"
#include "server/openai/chat_request.h"
#include "server/openai/completion_format.h"
#include "server/openai/completion_request.h"
#include "server/openai/encoding_routes.h"
#include "server/openai/json_body.h"
#include "server/openai/openai_error.h"
#include "server/openai/request_deadline.h"
#include "server/openai/token_routes.h"

namespace pregate {
namespace {

using nlohmann::json;
using Exchange = std::shared_ptr<HttpExchange>;

AnswerFrame FrameOf(const HttpEnvironment& environment, const char* id_prefix, const char* object,
                    const StreamFields& stream) {
  AnswerFrame frame;
  frame.id = NewAnswerId(id_prefix);
  frame.object = object;
  frame.created = absl::ToUnixSeconds(absl::Now());
  frame.model = environment.model->name();
  frame.stream = stream;
  return frame;
}

AnswerJob JobOf(std::vector<ClientRequest> requests, const StreamFields& stream,
                std::unique_ptr<AnswerFormat> format) {
  AnswerJob job;
  job.requests = std::move(requests);
  job.format = std::move(format);
  job.error = OpenAiError;
  job.stream = stream.stream;
  return job;
}

// How many answers each prompt gets: within bounds where the model will not refuse the number.
int AnswersOf(const ClientRequest& request) { return std::clamp(request.n, 1, kMaxAnswers); }

absl::StatusOr<AnswerJob> CompletionJob(const HttpEnvironment& environment, const json& body) {
  absl::StatusOr<CompletionRequest> request = ReadCompletionRequest(body, *environment.model);
  if (!request.ok()) return request.status();
  const AnswerFrame frame = FrameOf(environment, "cmpl-", "text_completion", request->stream);
  auto format = std::make_unique<CompletionFormat>(&environment.model->tokenizer(), frame,
                                                   AnswersOf(request->prompts.front()), *request);
  return JobOf(std::move(request->prompts), request->stream, std::move(format));
}

absl::StatusOr<AnswerJob> ChatJob(const HttpEnvironment& environment, const json& body) {
  absl::StatusOr<ChatRequest> chat =
      ReadChatRequest(body, environment.model->engine().model().max_model_len);
  if (!chat.ok()) return chat.status();
  const ClientRequest& request = chat->request;
  const AnswerFrame frame =
      FrameOf(environment, "chatcmpl-",
              chat->stream.stream ? "chat.completion.chunk" : "chat.completion", chat->stream);
  auto format =
      std::make_unique<ChatFormat>(&environment.model->tokenizer(), frame, AnswersOf(request),
                                   request.logprobs.has_value(), chat->prompt_logprobs);
  return JobOf({request}, chat->stream, std::move(format));
}

using ReadJob = absl::StatusOr<AnswerJob> (*)(const HttpEnvironment& environment, const json& body);

absl::StatusOr<AnswerJob> ReadWhole(const HttpEnvironment& environment, HttpRequest* request,
                                    ReadJob read) {
  absl::StatusOr<json> body = ParseJsonBody(std::exchange(request->body, ""));
  if (!body.ok()) return body.status();
  const absl::StatusOr<absl::Time> deadline = DeadlineOf(*request);
  if (!deadline.ok()) return deadline.status();
  absl::StatusOr<AnswerJob> job = read(environment, *body);
  if (!job.ok()) return job.status();
  for (ClientRequest& one : job->requests) {
    one.request_id = request->request_id;
    one.deadline = *deadline;
  }
  return job;
}

HttpRoute GenerationRoute(const HttpEnvironment* environment, const char* path, ReadJob read) {
  HttpRoute route;
  route.method = "POST";
  route.path = path;
  route.error = OpenAiError;
  route.handler = [environment, read](Exchange exchange) {
    absl::StatusOr<AnswerJob> job = ReadWhole(*environment, &exchange->request(), read);
    if (!job.ok()) {
      return AnswerExchange::Refuse(*environment, exchange.get(), job.status(), OpenAiError);
    }
    AnswerExchange::Start(environment, std::move(exchange), *std::move(job));
  };
  return route;
}

}  // namespace

std::vector<HttpRoute> OpenAiRoutes(const HttpEnvironment* environment) {
  std::vector<HttpRoute> routes = TokenRoutes(environment->model);
  routes.push_back(GenerationRoute(environment, "/v1/completions", CompletionJob));
  routes.push_back(GenerationRoute(environment, "/v1/chat/completions", ChatJob));
  for (HttpRoute& route : EncodingRoutes(environment)) routes.push_back(std::move(route));
  return routes;
}

}  // namespace pregate
