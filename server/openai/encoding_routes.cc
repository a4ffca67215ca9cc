#include "server/openai/encoding_routes.h"

#include <utility>

#include "server/http/encoding_exchange.h"
#include "server/openai/answer_words.h"
#include "server/openai/encoding_requests.h"
#include "server/openai/json_body.h"
#include "server/openai/openai_error.h"
#include "server/openai/request_deadline.h"

namespace pregate {
namespace {

using nlohmann::json;
using Exchange = std::shared_ptr<HttpExchange>;

// What the body asks for, by whom and until when.
template <typename Request>
absl::StatusOr<Request> Read(HttpRequest* http, absl::StatusOr<Request> (*read)(const json&)) {
  const absl::StatusOr<json> body = ParseJsonBody(std::exchange(http->body, ""));
  if (!body.ok()) return body.status();
  const absl::StatusOr<absl::Time> deadline = DeadlineOf(*http);
  if (!deadline.ok()) return deadline.status();
  absl::StatusOr<Request> request = read(*body);
  if (!request.ok()) return request.status();
  request->ask.caller.request_id = http->request_id;
  request->ask.caller.deadline = *deadline;
  return request;
}

// What the core plans of it, or why it does not.
template <typename Request, typename Ask>
absl::StatusOr<EncodingJob> Plan(const ServedModel& model, absl::StatusOr<Request> request,
                                 absl::StatusOr<EncodingJob> (*plan)(const ServedModel&, Ask)) {
  if (!request.ok()) return request.status();
  return plan(model, std::move(request->ask));
}

void Embed(const HttpEnvironment* environment, Exchange exchange) {
  absl::StatusOr<EmbeddingsRequest> request = Read(&exchange->request(), ReadEmbeddingsRequest);
  const bool base64 = request.ok() && request->base64;
  absl::StatusOr<EncodingJob> job = Plan(*environment->model, std::move(request), PlanEmbedding);
  EncodingExchange::Start(
      environment, std::move(exchange), std::move(job),
      [base64, model = environment->model](const EncodingResult& result) {
        return EmbeddingsAnswer(model->name(), base64, result);
      },
      OpenAiError);
}

void Rerank(const HttpEnvironment* environment, Exchange exchange) {
  absl::StatusOr<RerankRequest> request = Read(&exchange->request(), ReadRerankRequest);
  const int64_t top_n = request.ok() ? request->top_n : 0;
  std::vector<std::string> documents;
  if (request.ok() && request->return_documents) documents = request->ask.documents;
  absl::StatusOr<EncodingJob> job = Plan(*environment->model, std::move(request), PlanScoring);
  EncodingExchange::Start(
      environment, std::move(exchange), std::move(job),
      [top_n, documents = std::move(documents),
       model = environment->model](const EncodingResult& result) {
        return RerankAnswer(NewAnswerId("rerank-"), model->name(), top_n, documents, result);
      },
      OpenAiError);
}

HttpRoute Route(const HttpEnvironment* environment, const char* path,
                void (*answer)(const HttpEnvironment*, Exchange)) {
  HttpRoute route;
  route.method = "POST";
  route.path = path;
  route.error = OpenAiError;
  route.handler = [environment, answer](Exchange exchange) {
    answer(environment, std::move(exchange));
  };
  return route;
}

}  // namespace

std::vector<HttpRoute> EncodingRoutes(const HttpEnvironment* environment) {
  std::vector<HttpRoute> routes = {Route(environment, "/v1/embeddings", Embed)};
  for (const char* path : {"/v1/rerank", "/v2/rerank", "/rerank"}) {
    routes.push_back(Route(environment, path, Rerank));
  }
  return routes;
}

}  // namespace pregate
